"""The networks of the inverse dynamics model of GR00T-Dreams.

  one frame f32[b,v,h,w,3] -> Eye:
    SigLIP 2 -> linear -> downsampling MLP -> seen f32[b,v,l,d]
  two of them f32[b,t,v,l,d] -> Context:
    + view embedding -> zero padding on the left -> self-attention -> f32[b,l,d]
  noisy chunk f32[b,u,a], integer step i32[b], context -> Denoiser:
    action encoder + positions -> DiT -> action decoder -> velocity f32[b,u,a]
  one frame's seen -> StateHead (ours): the robot's state f32[b,s]

What is seen depends on one frame only, and the context not on the step: each
is computed once, however many pairs a frame is of and however many steps there
are.
"""

import dataclasses

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from dreamgen_jax import errors, types
from dreamgen_jax.encoders import siglip
from dreamgen_jax.layers import action_head, norm

# How often a projector halves the grid of tokens, by LLaVA's and NVILA's name.
HALVINGS = {"mlp_doubledownsample": 2, "mlp_downsample": 1, "identity": 0}
STATE_WIDTH = 64  # of each token, where a state is read off all of them


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of both networks; the defaults are the release's.

  Attributes:
    vision: the vision tower.
    projector: a key of `HALVINGS`.
    width, heads: of everything behind the tower.
    refine_depth, dit_depth: blocks of self-attention, and of the DiT.
    dropout: rate in both, in training.
    tokens: the context is padded to this length; 0 for no padding.
    max_images: rows of the view table, frames times views.
    action_dim, horizon: `a` and `u`.
    positions: rows of the table of chunk positions.
    embodiments: rows of the per-embodiment weights.
    logit: hold the release's two scalars that nothing reads.
    dtype: compute dtype.
  """

  vision: siglip.Config
  projector: str
  width: int
  heads: int
  refine_depth: int
  dit_depth: int
  dropout: float
  tokens: int
  max_images: int
  action_dim: int
  horizon: int
  positions: int
  embodiments: int
  logit: bool
  dtype: str

  def __post_init__(self):
    if self.projector not in HALVINGS:
      raise errors.ConfigError(
          f"Unknown projector {self.projector!r}; have: {', '.join(HALVINGS)}.")
    if self.vision.grid % 2 ** HALVINGS[self.projector]:
      raise errors.ConfigError(
          f"{self.projector} cannot halve a grid of {self.vision.grid} patches "
          "so often; choose another patch, image size or projector.")
    if self.horizon > self.positions:
      raise errors.ConfigError(
          f"A chunk of {self.horizon} steps needs as many positions; there "
          f"are {self.positions}.")

  @property
  def image_tokens(self) -> int:
    """Tokens of one image behind the projector."""
    return (self.vision.grid // 2 ** HALVINGS[self.projector]) ** 2

  def sizes(self, train: bool) -> action_head.Sizes:
    """Those of the transformers behind the tower."""
    return action_head.Sizes(
        self.width, self.heads, self.dropout, train, self.dtype)


class Eye(nn.Module):
  """One frame in all views -> its tokens; parameters lie with Context's."""

  config: Config

  @nn.compact
  def __call__(self, images: types.Array) -> types.Array:
    """f32[b,v,h,w,3] in [-1, 1] -> [b,v,l,d]."""
    c = self.config
    if c.logit:
      self.param("logit_scale", nn.initializers.zeros, (1,))
      self.param("logit_bias", nn.initializers.zeros, (1,))
    x = rearrange(images, "b v h w c -> (b v) h w c")
    x, _ = siglip.Tower(c.vision, name="vision")(x)  # b*v l d
    x = nn.Dense(c.vision.width, dtype=c.dtype, name="vision_out")(x)
    x = Projector(c, name="projector")(x)
    return rearrange(x, "(b v) l d -> b v l d", v=images.shape[1])


class Context(nn.Module):
  """What is seen in both frames, t major, as keys and values for the chunk."""

  config: Config
  train: bool = False

  @nn.compact
  def __call__(self, seen: types.Array) -> types.Array:
    """[b,t,v,l,d] -> f32[b,l,d].

    Raises:
      ConfigError: more images per sample than the tables hold.
    """
    c = self.config
    count = seen.shape[1] * seen.shape[2]
    room = min(c.max_images, c.tokens // c.image_tokens or c.max_images)
    if count > room:
      raise errors.ConfigError(
          f"{seen.shape[2]} views make {count} images per sample; this "
          f"labeler holds {room}. Raise max_images and tokens.")
    views = self.param("views", nn.initializers.normal(c.width ** -0.5),
                       (c.max_images, c.width))
    x = rearrange(seen, "b t v l d -> b (t v) l d")
    x = x + views[:count, None].astype(x.dtype)
    x = rearrange(x, "b v l d -> b (v l) d")
    # The release lets the padding take part in attention; so must we.
    empty = max(0, c.tokens - x.shape[1])
    x = jnp.pad(x, ((0, 0), (empty, 0), (0, 0)))  # b tokens d
    return action_head.Refine(
        c.sizes(self.train), c.refine_depth, name="refine")(x)


class StateHead(nn.Module):
  """The robot's state as one frame shows it; not part of the release."""

  config: Config
  features: int

  @nn.compact
  def __call__(self, seen: types.Array,
               embodiment: types.Array) -> types.Array:
    """[b,v,l,d], rows i32[b] -> normalised f32[b,features]."""
    c = self.config
    x = nn.Dense(STATE_WIDTH, dtype=c.dtype, name="narrow")(seen)
    x = rearrange(x, "b v l d -> b 1 (v l d)")
    x = action_head.MlpByEmbodiment(
        self.features, c.width, c.embodiments, c.dtype, name="mlp")(
            x, embodiment)
    return x[:, 0].astype(jnp.float32)


class Projector(nn.Module):
  """Per halving: 2x2 tokens side by side, layer norm, linear, GELU, linear."""

  config: Config

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b,l,d'] -> [b,l / 4 per halving,d]."""
    c = self.config
    x = rearrange(x, "b (h w) d -> b h w d", h=c.vision.grid)
    for i in range(HALVINGS[c.projector]):
      # Every halving also transposes the grid, as in the release.
      x = rearrange(x, "b (h p) (w q) d -> b w h (p q d)", p=2, q=2)
      x = norm.LayerNorm(1e-5, name=f"norm_{i}")(x)
      x = nn.Dense(c.width, dtype=c.dtype, name=f"in_{i}")(x)
      x = jax.nn.gelu(x, approximate=False)
      x = nn.Dense(c.width, dtype=c.dtype, name=f"out_{i}")(x)
    x = rearrange(x, "b h w d -> b (h w) d")
    if x.shape[-1] != c.width:
      x = nn.Dense(c.width, dtype=c.dtype, name="out")(x)
    return x


class Denoiser(nn.Module):
  """A noisy chunk -> its velocity; see the file's docstring."""

  config: Config
  train: bool = False

  @nn.compact
  def __call__(self, action: types.Array, step: types.Array,
               context: types.Array, embodiment: types.Array) -> types.Array:
    """[b,u,a], i32[b], [b,l,d], rows i32[b] -> f32[b,u,a]."""
    c = self.config
    x = action_head.ActionEncoder(
        c.width, c.embodiments, c.dtype, name="action_encoder")(
            action, step, embodiment)  # b u d
    positions = self.param(
        "positions", nn.initializers.normal(c.width ** -0.5),
        (c.positions, c.width))
    x = x + positions[:x.shape[1]].astype(x.dtype)
    x = action_head.DiT(c.sizes(self.train), c.dit_depth, name="dit")(
        x, step, context)
    return action_head.MlpByEmbodiment(
        c.action_dim, c.width, c.embodiments, c.dtype, name="action_decoder")(
            x, embodiment).astype(jnp.float32)
