"""The networks of an inverse dynamics model over whole clips.

  one frame f32[b,v,h,w,3] -> Eye: vision tower -> seen f32[b,d]
  all of a clip f32[b,f,d] -> Clip: frames and one query per control step, in a
    transformer that looks both ways -> mean and deviation f32[b,u,a] each
"""

import dataclasses

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from dreamgen_jax import types
from dreamgen_jax.encoders import siglip
from dreamgen_jax.layers import action_head, norm

TOKEN_WIDTH = 64  # of each token of the tower, where a frame becomes one vector
LEAST = 1e-2  # deviation of a normalised action


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of both networks.

  Attributes:
    vision: the vision tower.
    width, heads, depth: of the transformer over frames.
    dropout: its rate, in training.
    frames: of a clip.
    action_dim, horizon: `a` and `u`.
    embodiments: rows of the per-embodiment weights.
    dtype: compute dtype.
  """

  vision: siglip.Config
  width: int
  heads: int
  depth: int
  dropout: float
  frames: int
  action_dim: int
  horizon: int
  embodiments: int
  dtype: str


class Eye(nn.Module):
  """One frame in all views -> one vector."""

  config: Config

  @nn.compact
  def __call__(self, images: types.Array) -> types.Array:
    """f32[b,v,h,w,3] in [-1, 1] -> [b,d]."""
    c = self.config
    x = rearrange(images, "b v h w c -> (b v) h w c")
    x, _ = siglip.Tower(c.vision, name="vision")(x)  # b*v l d'
    x = nn.Dense(TOKEN_WIDTH, dtype=c.dtype, name="narrow")(x)
    x = rearrange(x, "(b v) l d -> b (v l d)", v=images.shape[1])
    return nn.Dense(c.width, dtype=c.dtype, name="vision_out")(x)


class Clip(nn.Module):
  """What is seen in all frames -> the actions of all steps."""

  config: Config
  train: bool = False

  @nn.compact
  def __call__(self, seen: types.Array, embodiment: types.Array
               ) -> tuple[types.Array, types.Array]:
    """[b,f,d], rows i32[b] -> mean and deviation, f32[b,u,a] each."""
    c = self.config
    sizes = action_head.Sizes(
        c.width, c.heads, c.dropout, self.train, c.dtype)
    places = self.param("places", nn.initializers.normal(c.width ** -0.5),
                        (c.frames, c.width))
    steps = self.param("steps", nn.initializers.normal(1.0),
                       (c.horizon, c.width))
    queries = jnp.broadcast_to(
        steps.astype(seen.dtype), (len(seen), *steps.shape))
    x = jnp.concatenate([seen + places.astype(seen.dtype), queries], axis=1)
    x = action_head.Refine(sizes, c.depth, name="blocks")(x)  # b f+u d
    x = norm.LayerNorm(1e-5, name="norm")(x[:, c.frames:])  # b u d
    x = action_head.MlpByEmbodiment(
        2 * c.action_dim, c.width, c.embodiments, c.dtype, name="actions")(
            x, embodiment).astype(jnp.float32)
    mean, deviation = jnp.split(x, 2, axis=-1)  # b u a each
    return mean, LEAST + jax.nn.softplus(deviation)
