"""What pi0 has around its two experts: state, noisy actions, times.

Source: Physical Intelligence's openpi.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dreamgen_jax import types
from dreamgen_jax.layers import embed

# Periods of the sinusoids that tell the time tau in [0, 1].
SHORTEST, LONGEST = 4e-3, 4.0


class Suffix(nn.Module):
  """State, noisy chunk and time as tokens of the action expert.

  pi0 mixes the time into each action's token and has a token for the state;
  pi0.5 gives the time to the expert's norms.

  Attributes:
    width: of the expert.
    adaptive: as pi0.5.
  """

  width: int
  adaptive: bool

  @nn.compact
  def __call__(
      self, state: types.Array, action: types.Array, tau: types.Array
  ) -> tuple[types.Array, types.Array | None]:
    """f32[b,s], f32[b,u,a], f32[b] -> (tokens [b,l,d], condition [b,d])."""

    def dense(name, x):
      return nn.Dense(self.width, name=name)(x)

    time = embed.waves(
        tau, _frequencies(self.width // 2), sin_first=True)  # b d
    tokens = dense("action", action)  # b u d
    if self.adaptive:
      time = nn.silu(dense("time_in", time))
      return tokens, nn.silu(dense("time_out", time))
    time = jnp.broadcast_to(time[:, None], tokens.shape)
    tokens = dense("mix_in", jnp.concatenate([tokens, time], axis=-1))
    tokens = dense("mix_out", nn.silu(tokens))
    state = dense("state", state)[:, None]  # b 1 d
    return jnp.concatenate([state, tokens], axis=1), None  # b 1+u d


def _frequencies(count: int) -> np.ndarray:
  """f32[count], rounded step by step as released.

  The fastest turns a thousand radians and more, of which a time's last bit is
  1e-4; exact frequencies would be that far from those it was trained with.
  """
  share = np.linspace(0, 1, count, dtype=np.float32).astype(np.float64)
  ratio = np.power(LONGEST / SHORTEST, share).astype(np.float32)
  turns = np.float32(1) / (np.float32(SHORTEST) * ratio)
  return turns * np.float32(2) * np.float32(np.pi)


def suffix_blocks(horizon: int, adaptive: bool) -> list[int]:
  """Sizes of the blocks that `Suffix` makes, see `gemma.block_mask`."""
  return [horizon] if adaptive else [1, horizon]


def beta_times(rng: types.Array, count: int) -> types.Array:
  """Times f32[count] in (0.001, 1] of the density Beta(1.5, 1), by inversion.
  """
  return 0.001 + 0.999 * jax.random.uniform(rng, (count,)) ** (1 / 1.5)
