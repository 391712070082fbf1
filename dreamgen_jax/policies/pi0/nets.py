"""What pi0 has around its two experts: images, state, noisy actions, masks.

Source: Physical Intelligence's openpi.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dreamgen_jax import types
from dreamgen_jax.encoders import siglip
from dreamgen_jax.layers import embed

# Periods of the sinusoids that tell the time tau in [0, 1].
SHORTEST, LONGEST = 4e-3, 4.0


class Images(nn.Module):
  """SigLIP's tokens in the width of the language model."""

  config: siglip.Config
  width: int

  @nn.compact
  def __call__(self, images: types.Array) -> types.Array:
    """f32[b,h,w,3] in [-1, 1] -> [b,l,d]."""
    x, _ = siglip.Tower(self.config, name="tower")(images)
    return nn.Dense(self.width, dtype=self.config.dtype, name="head")(x)


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
  """Sizes of the blocks of tokens that `Suffix` makes, see `block_mask`."""
  return [horizon] if adaptive else [1, horizon]


def block_mask(valid: types.Array, blocks: Sequence[int]) -> types.Array:
  """Tokens attend to their own block and to those before it.

  Args:
    valid: bool[b,l]; others are not attended, and attend to nothing.
    blocks: sizes of the blocks, in order; they sum to l.

  Returns:
    bool[b,l,l].
  """
  number = np.repeat(np.arange(len(blocks)), blocks)  # l
  return (number[None] <= number[:, None]) & (
      valid[:, None] & valid[:, :, None])


def positions(valid: types.Array) -> types.Array:
  """bool[b,l] -> i32[b,l]: how many valid tokens stand before each."""
  return jnp.cumsum(valid, axis=1, dtype=jnp.int32) - 1


def beta_times(rng: types.Array, count: int) -> types.Array:
  """Times f32[count] in (0.001, 1] of the density Beta(1.5, 1), by inversion.
  """
  return 0.001 + 0.999 * jax.random.uniform(rng, (count,)) ** (1 / 1.5)
