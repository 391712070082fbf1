"""The action part of GR00T N1: a state and a noisy chunk to a velocity.

  state f32[b,s] -> MLP per embodiment -> one token
  noisy chunk f32[b,u,a], step i32[b] -> action encoder + positions -> u tokens
  both behind each other -> DiT, which reads the context -> the chunk's tokens
  -> MLP per embodiment -> velocity f32[b,u,a]

Structure and parameter names follow NVIDIA's Isaac-GR00T repository.
"""

import dataclasses

import jax.numpy as jnp
from flax import linen as nn

from dreamgen_jax import errors, types
from dreamgen_jax.layers import action_head


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes; the defaults are the release's.

  Attributes:
    state_width, action_width: what embodiments zero-pad their vectors to.
    width, heads, depth, dropout: of the DiT.
    hidden: of the MLPs per embodiment, and of the DiT's result.
    positions: rows of the table of chunk positions.
    embodiments: rows of the per-embodiment weights.
    dtype: compute dtype.
  """

  state_width: int = 64
  action_width: int = 32
  width: int = 1536
  heads: int = 32
  depth: int = 16
  dropout: float = 0.2
  hidden: int = 1024
  positions: int = 1024
  embodiments: int = 32
  dtype: str = "float32"

  def __post_init__(self):
    if self.width % self.heads or self.width % 2:
      raise errors.ConfigError(
          f"An action head needs an even width ({self.width}) divisible by "
          f"heads ({self.heads}).")


class Head(nn.Module):
  """See the file's docstring."""

  config: Config
  train: bool = False

  @nn.compact
  def __call__(self, action: types.Array, step: types.Array,
               state: types.Array, context: types.Array,
               embodiment: types.Array,
               mask: types.Array | None = None) -> types.Array:
    """A velocity for every entry of the chunk.

    Args:
      action: noisy chunk f32[b,u,a].
      step: integer time i32[b], see `action_head.velocity_error`.
      state: f32[b,s].
      context: [b,m,d] of the backbone.
      embodiment: rows i32[b] of the per-embodiment weights.
      mask: bool[b,m], which of the context is attended; None is all of it.

    Returns:
      f32[b,u,a].
    """
    c = self.config
    token = action_head.MlpByEmbodiment(
        c.width, c.hidden, c.embodiments, c.dtype, name="state_encoder")(
            state[:, None], embodiment)  # b 1 d
    x = action_head.ActionEncoder(
        c.width, c.embodiments, c.dtype, name="action_encoder")(
            action, step, embodiment)  # b u d
    positions = self.param(
        "positions", nn.initializers.normal(0.02), (c.positions, c.width))
    x = x + positions[:x.shape[1]].astype(x.dtype)
    x = jnp.concatenate([token, x], axis=1)  # b 1+u d
    sizes = action_head.Sizes(
        c.width, c.heads, c.dropout, self.train, c.dtype)
    x = action_head.DiT(sizes, c.depth, c.hidden, name="dit")(
        x, step, context, mask)
    x = action_head.MlpByEmbodiment(
        c.action_width, c.hidden, c.embodiments, c.dtype,
        name="action_decoder")(x, embodiment)
    return x[:, 1:].astype(jnp.float32)  # b u a
