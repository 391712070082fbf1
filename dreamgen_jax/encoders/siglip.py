"""SigLIP and SigLIP 2 vision tower (arXiv 2303.15343, 2502.14786).

f32[b,h,w,3] in [-1, 1] -> patches -> linear + learned positions -> pre-norm
transformer -> layer norm f32[b,l,d], tokens in reading order. Both releases
with a fixed resolution share `Tower`; images of any height and width go
through SigLIP 2's `NaFlex`, patch by patch.
"""

import dataclasses

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from dreamgen_jax import errors, interfaces, types, weights
from dreamgen_jax.layers import attention, norm, stack


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of a tower.

  Attributes:
    width, depth, heads, mlp_width: of the transformer.
    patch: side of a patch in pixels.
    image_size: side of the image in pixels, a multiple of `patch`.
    pooling: build the attention-pooling head.
    dtype: compute dtype.
    embed_dtype: of the patches' embedding and positions, if another one.
    remat: see `layers.stack.repeat`.
  """

  width: int
  depth: int
  heads: int
  mlp_width: int
  patch: int
  image_size: int
  pooling: bool = False
  dtype: str = "float32"
  remat: str = "none"
  embed_dtype: str | None = dataclasses.field(
      default=None, metadata=interfaces.LATER)

  def __post_init__(self):
    if self.image_size % self.patch or self.width % self.heads:
      raise errors.ConfigError(
          f"A vision tower needs an image_size ({self.image_size}) divisible "
          f"by patch ({self.patch}) and a width ({self.width}) divisible by "
          f"heads ({self.heads}).")

  @property
  def grid(self) -> int:
    """Patches along a side."""
    return self.image_size // self.patch


PRESETS = {
    "siglip2-large-patch16-256": Config(1024, 24, 16, 4096, 16, 256, True),
    "siglip-so400m-patch14-224": Config(1152, 27, 16, 4304, 14, 224, True),
}

RULES = [
    (r"(q|k|v|in|in_proj)/kernel$", ("fsdp", "tensor")),
    (r"(o|out)/kernel$", ("tensor", "fsdp")),
    (r"(patch/kernel|positions)$", (None, "fsdp")),
    (r".*", ()),
]


class Tower(nn.Module):
  """The vision tower; see the file's docstring."""

  config: Config

  @nn.compact
  def __call__(
      self, images: types.Array
  ) -> tuple[types.Array, types.Array | None]:
    """Encodes square images.

    Args:
      images: f32[b,image_size,image_size,3] in [-1, 1].

    Returns:
      (tokens after the last norm [b,l,d], pooled [b,d] or None without the
      pooling head).
    """
    c = self.config
    x = rearrange(images, "b (h p) (w q) c -> b (h w) (p q c)", p=c.patch,
                  q=c.patch)
    x = nn.Dense(
        c.width, dtype=c.embed_dtype or c.dtype, name="patch")(x)  # b l d
    positions = self.param(
        "positions", nn.initializers.normal(c.width ** -0.5),
        (c.grid ** 2, c.width))
    x = (x + positions.astype(x.dtype)).astype(c.dtype)
    x = stack.repeat(Block(c, name="blocks"), x, depth=c.depth, remat=c.remat)
    x = norm.LayerNorm(name="norm")(x)
    return x, Pool(c, name="pool")(x) if c.pooling else None


class Images(nn.Module):
  """SigLIP's tokens in the width of the language model."""

  config: Config
  width: int

  @nn.compact
  def __call__(self, images: types.Array) -> types.Array:
    """f32[b,h,w,3] in [-1, 1] -> [b,l,d]."""
    x, _ = Tower(self.config, name="tower")(images)
    return nn.Dense(self.width, dtype=self.config.dtype, name="head")(x)


class NaFlex(nn.Module):
  """The vision tower for patches of images of any height and width.

  Its positions are a table of `grid` by `grid`, resized to each image.
  """

  config: Config

  @nn.compact
  def __call__(
      self, patches: types.Array, shape: types.Array
  ) -> tuple[types.Array, types.Array | None]:
    """Encodes patches.

    Args:
      patches: f32[b,l,patch*patch*3], an image's in reading order, each
        (row, column, channel); then padding, which nothing attends to.
      shape: i32[b,2], rows and columns of an image's patches.

    Returns:
      As `Tower`; rows of padding mean nothing.
    """
    c, length = self.config, patches.shape[1]
    x = nn.Dense(c.width, dtype=c.dtype, name="patch")(patches)  # b l d
    table = self.param(
        "positions", nn.initializers.normal(c.width ** -0.5),
        (c.grid ** 2, c.width))
    x = x + _resized(table, c.grid, shape, length).astype(x.dtype)
    mask = (jnp.arange(length) < jnp.prod(shape, 1, keepdims=True))[
        :, None, None]  # b 1 1 l
    x = stack.repeat(Block(c, name="blocks"), x, mask, depth=c.depth,
                     remat=c.remat)
    x = norm.LayerNorm(name="norm")(x)
    return x, Pool(c, name="pool")(x, mask) if c.pooling else None


def _resized(table: types.Array, grid: int, shape: types.Array,
             length: int) -> types.Array:
  """A square table [grid*grid,d] resized to each shape [b,2], f32[b,length,d].

  Bilinear with antialiasing; what is past an image's end repeats its first.
  """
  rows, columns = shape[:, :1], shape[:, 1:]  # b 1
  place = jnp.arange(length)[None]
  place = jnp.where(place < rows * columns, place, 0)  # b l

  def weights(position, count):
    scale = jnp.maximum(grid / count, 1.0)[..., None]
    centre = ((position + 0.5) * grid / count - 0.5)[..., None]
    weight = jnp.maximum(
        0.0, 1.0 - jnp.abs(jnp.arange(grid) - centre) / scale)
    return weight / weight.sum(-1, keepdims=True)  # b l grid

  table = rearrange(table, "(h w) d -> h w d", h=grid)
  return jnp.einsum(
      "blh,blw,hwd->bld", weights(place // columns, rows),
      weights(place % columns, columns), table)


class Block(nn.Module):
  """Pre-norm self-attention and MLP."""

  config: Config

  @nn.compact
  def __call__(self, x: types.Array,
               mask: types.Array | None = None) -> types.Array:
    """[b,l,d], mask bool[b,1,1,l] of what is attended -> [b,l,d]."""
    c = self.config
    y = norm.LayerNorm(name="attention_norm")(x)
    q, k, v = (
        rearrange(nn.Dense(c.width, dtype=c.dtype, name=name)(y),
                  "b l (n k) -> b l n k", n=c.heads) for name in "qkv")
    y = rearrange(attention.attend(q, k, v, mask), "b l n k -> b l (n k)")
    x = x + nn.Dense(c.width, dtype=c.dtype, name="o")(y)
    y = norm.LayerNorm(name="mlp_norm")(x)
    return x + Mlp(c, name="mlp")(y)


class Mlp(nn.Module):
  """Two linear layers with a tanh-approximated GELU between."""

  config: Config

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[...,d] -> [...,d]."""
    c = self.config
    x = nn.Dense(c.mlp_width, dtype=c.dtype, name="in")(x)
    x = jax.nn.gelu(x, approximate=True)
    return nn.Dense(c.width, dtype=c.dtype, name="out")(x)


class Pool(nn.Module):
  """One learned query attends to all tokens, then a residual MLP."""

  config: Config

  @nn.compact
  def __call__(self, x: types.Array,
               mask: types.Array | None = None) -> types.Array:
    """[b,l,d], mask as in `Block` -> [b,d]."""
    c = self.config
    probe = self.param(
        "probe", nn.initializers.normal(c.width ** -0.5), (1, c.width))
    probe = jnp.broadcast_to(probe.astype(x.dtype), (len(x), 1, c.width))
    # The released kernel holds q, k and v behind each other.
    x = nn.Dense(3 * c.width, dtype=c.dtype, name="in_proj")(
        jnp.concatenate([probe, x], axis=1))
    q, k, v = rearrange(x, "b l (p n k) -> p b l n k", p=3, n=c.heads)
    y = attention.attend(q[:, :1], k[:, 1:], v[:, 1:], mask)  # b 1 n k
    y = rearrange(y, "b 1 n k -> b (n k)")
    y = nn.Dense(c.width, dtype=c.dtype, name="o")(y)
    return y + Mlp(c, name="mlp")(norm.LayerNorm(name="norm")(y))


def names(patch: int | None, source: str = "vision_model",
          path: str = "") -> list[weights.Rule]:
  """The released names of a tower (Hugging Face `SiglipVisionModel`).

  Args:
    patch: side of a patch, whose kernel is stored as a convolution; None
      where it is stored as a linear layer (`Siglip2VisionModel`, NaFlex).
    source: prefix of the released names.
    path: prefix of ours, ending in "/" unless empty.
  """
  layer, head = f"{source}.encoder.layers.{{i}}", f"{source}.head"
  rules = weights.conv(f"{source}.embeddings.patch_embedding", f"{path}patch",
                       weights.patch(patch, patch) if patch
                       else weights.linear)
  rules += [
      weights.Rule(f"{source}.embeddings.position_embedding.weight",
                   f"{path}positions"),
      weights.Rule(f"{head}.probe", f"{path}pool/probe", weights.squeeze()),
      weights.Rule(f"{head}.attention.in_proj_weight",
                   f"{path}pool/in_proj/kernel", weights.linear),
      weights.Rule(f"{head}.attention.in_proj_bias",
                   f"{path}pool/in_proj/bias"),
  ]
  for theirs, ours in (
      (f"{layer}.layer_norm1", "blocks/attention_norm"),
      (f"{layer}.layer_norm2", "blocks/mlp_norm"),
      (f"{source}.post_layernorm", "norm"),
      (f"{head}.layernorm", "pool/norm"),
  ):
    rules += weights.norm(theirs, path + ours)
  for theirs, ours in (
      (f"{layer}.self_attn.{{p:q|k|v}}_proj", "blocks/{p}"),
      (f"{layer}.self_attn.out_proj", "blocks/o"),
      (f"{layer}.mlp.fc1", "blocks/mlp/in"),
      (f"{layer}.mlp.fc2", "blocks/mlp/out"),
      (f"{head}.attention.out_proj", "pool/o"),
      (f"{head}.mlp.fc1", "pool/mlp/in"),
      (f"{head}.mlp.fc2", "pool/mlp/out"),
  ):
    rules += weights.dense(theirs, path + ours)
  return rules


# What a released file holds besides the vision tower.
IGNORE = [
    weights.Ignore(r"text_model\..*", "the text tower is not used"),
    weights.Ignore(r"logit_(scale|bias)", "only image-text training needs it"),
]
