"""The networks of LAPA's latent action quantisation (arXiv 2410.11758).

  two frames f32[b,f,h,w,3] in [0, 1] -> Encoder:
    patches -> blocks over all places of a frame (spatial)
    -> blocks over both frames of a place (temporal) -> narrow
    -> two convolutions to the grid of slots, frame by frame
    -> second - first: the latent f32[b,l,e], one vector per slot
  codes f32[b,l,e], patches of the first frame -> Decoder:
    spatial blocks that also read the codes -> the second frame

`e` is the width of a code. Structure and weights follow the authors' `laq`,
which took its transformer from C-ViViT (Phenaki, arXiv 2210.02399).
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from flax import linen as nn

from dreamgen_jax import errors, types
from dreamgen_jax.layers import attention, norm, stack

# Slots -> side of the grid of patches; kernel, stride and padding of the
# second of two convolutions. The first one always halves the grid.
GRIDS = {1: (8, 4, 1, 0), 4: (8, 3, 1, 0), 16: (16, 3, 2, 1)}
_EPSILON = 1e-5
_NULLS = 2  # learned keys and values that cross-attention may turn to
_LOGIT_SCALE = 8.0  # of the cosine between query and key
_LEAK = 0.1


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of the networks; the defaults are LAPA's.

  Attributes:
    slots: codes per pair of frames, a key of `GRIDS`.
    code_width: numbers per code, `e`.
    camera_size, patch: sides of a frame and of a patch, in pixels.
    width, heads, head_width: of the transformers.
    spatial_depth: blocks over a frame, in the encoder and in the decoder.
    temporal_depth: blocks over the two frames.
    quirks: scramble two layouts as the released code does, which its weights
      have learnt: places and times under the temporal blocks' convolution,
      slots and entries of the codes that the decoder reads.
    dtype: compute dtype.
    remat: see `layers.stack.repeat`.
  """

  slots: int = 4
  code_width: int = 32
  camera_size: int = 256
  patch: int = 32
  width: int = 1024
  heads: int = 16
  head_width: int = 64
  spatial_depth: int = 8
  temporal_depth: int = 8
  quirks: bool = True
  dtype: str = "float32"
  remat: str = "none"

  def __post_init__(self):
    if self.slots not in GRIDS:
      raise errors.ConfigError(
          f"slots = {self.slots}; the convolutions to the slots are known for "
          f"{', '.join(map(str, GRIDS))}.")
    side = GRIDS[self.slots][0]
    if self.camera_size != side * self.patch:
      raise errors.ConfigError(
          f"{self.slots} slots need frames of {side} x {side} patches, but "
          f"camera_size = {self.camera_size} and patch = {self.patch}; set "
          f"patch to {self.camera_size / side:g}.")

  @property
  def grid(self) -> int:
    """Patches along a side."""
    return self.camera_size // self.patch

  @property
  def latent_dim(self) -> int:
    """Numbers of a latent action."""
    return self.slots * self.code_width


class PositionBias(nn.Module):
  """An MLP of the distance of two patches -> what their attention adds.

  Source: arXiv 2111.09883, section 3.3; both axes in logarithms.
  """

  config: Config

  @nn.compact
  def __call__(self) -> types.Array:
    """f32[n,l,l]."""
    c, side = self.config, self.config.grid
    step = np.arange(1 - side, side)
    step = np.sign(step) * np.log1p(np.abs(step))
    # Distances are few, pairs are many.
    grid = np.stack(np.meshgrid(step, step, indexing="ij"), -1)
    x = jnp.asarray(grid, jnp.float32)  # 2*side-1 2*side-1 2
    x = nn.leaky_relu(nn.Dense(c.width, name="in")(x), _LEAK)
    x = nn.leaky_relu(nn.Dense(c.width, name="hidden")(x), _LEAK)
    x = nn.Dense(c.heads, name="out")(x)  # 2*side-1 2*side-1 n
    place = np.stack(np.divmod(np.arange(side**2), side), -1)
    away = place[:, None] - place[None] + side - 1  # l l 2
    return rearrange(x[away[..., 0], away[..., 1]], "q l n -> n q l")


class Encoder(nn.Module):
  """Two frames -> the latent between them; see the file's docstring."""

  config: Config

  @nn.compact
  def __call__(self, frames: types.Array,
               bias: types.Array) -> tuple[types.Array, types.Array]:
    """Frames and the position bias -> latent, and the first frame's patches.

    Args:
      frames: f32[b,2,h,w,3] in [0, 1].
      bias: f32[n,l,l] of `PositionBias`.

    Returns:
      (f32[b,slots,e], [b,h',w',d]).
    """
    c = self.config
    x = Patches(c, name="patches")(frames)  # b f h w d
    first = x[:, 0]
    x = Transformer(c, c.spatial_depth, name="spatial")(x, bias)
    x = Transformer(c, c.temporal_depth, temporal=True, name="temporal")(x)
    return Slots(c, name="slots")(x), first


class Patches(nn.Module):
  """Pixels of a patch -> layer norm, linear, layer norm."""

  config: Config

  @nn.compact
  def __call__(self, frames: types.Array) -> types.Array:
    """f32[b,f,h,w,3] -> [b,f,h',w',d]."""
    c = self.config
    x = rearrange(frames, "b f (h p) (w q) c -> b f h w (c p q)",
                  p=c.patch, q=c.patch)
    x = norm.LayerNorm(_EPSILON, name="norm_in")(x)
    x = nn.Dense(c.width, dtype=c.dtype, name="in")(x)
    return norm.LayerNorm(_EPSILON, name="norm_out")(x)


class Slots(nn.Module):
  """Tokens of both frames -> per slot, how the second differs."""

  config: Config

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b,2,h,w,d] -> f32[b,slots,e]."""
    c = self.config
    _, size, stride, pad = GRIDS[c.slots]
    x = nn.Dense(c.code_width, name="narrow")(x.astype(jnp.float32))
    x = rearrange(x, "b f h w e -> (b f) h w e")
    x = nn.Conv(c.code_width, (3, 3), 2, 1, name="conv_0")(x)
    x = nn.Conv(c.code_width, (size, size), stride, pad, name="conv_1")(
        nn.relu(x))
    x = rearrange(x, "(b f) h w e -> b f (h w) e", f=2)
    return x[:, 1] - x[:, 0]  # b slots e


class Decoder(nn.Module):
  """Codes and the first frame's patches -> the second frame."""

  config: Config

  @nn.compact
  def __call__(self, codes: types.Array, first: types.Array,
               bias: types.Array) -> types.Array:
    """Predicts a frame.

    Args:
      codes: f32[b,slots,e].
      first: [b,h',w',d] of the encoder, which is not trained through it.
      bias: f32[n,l,l] of `PositionBias`.

    Returns:
      f32[b,h,w,3], about in [0, 1].
    """
    c = self.config
    if c.quirks:  # the block [slots, e] is read as [e, slots]
      codes = rearrange(codes, "b l e -> b (l e)")
      codes = rearrange(codes, "b (e l) -> b l e", l=c.slots)
    codes = nn.Dense(c.width, dtype=c.dtype, name="codes")(codes)
    x = jax.lax.stop_gradient(first)[:, None]  # b 1 h w d
    x = Transformer(c, c.spatial_depth, reads=True, name="spatial")(
        x, bias, codes)
    x = nn.Dense(3 * c.patch**2, name="pixels")(x[:, 0].astype(jnp.float32))
    return rearrange(x, "b h w (c p q) -> b (h p) (w q) c",
                     p=c.patch, q=c.patch)


class Transformer(nn.Module):
  """Blocks, then a layer norm.

  Attributes:
    depth: number of blocks.
    temporal: attend over the frames of a place, not the places of a frame.
    reads: blocks also attend to codes.
  """

  config: Config
  depth: int
  temporal: bool = False
  reads: bool = False

  @nn.compact
  def __call__(self, x: types.Array, bias: types.Array | None = None,
               codes: types.Array | None = None) -> types.Array:
    """[b,f,h,w,d], bias [n,l,l], codes [b,m,d] -> [b,f,h,w,d]."""
    block = Block(self.config, self.temporal, self.reads, name="blocks")
    x = stack.repeat(block, x, bias, codes, depth=self.depth,
                     remat=self.config.remat)
    return norm.LayerNorm(_EPSILON, bias=False, name="norm")(x)


class Block(nn.Module):
  """Convolution for positions, attention, (codes,) MLP; all added."""

  config: Config
  temporal: bool
  reads: bool

  @nn.compact
  def __call__(self, x: types.Array, bias: types.Array | None,
               codes: types.Array | None) -> types.Array:
    """As `Transformer`."""
    c = self.config
    _, f, h, w, _ = x.shape
    whole = "b f h w d"
    tokens = "(b h w) f d" if self.temporal else "(b f) (h w) d"
    x = x + Positions(self.temporal and c.quirks, c.dtype, name="positions")(x)
    x = rearrange(x, f"{whole} -> {tokens}")
    x = x + Attention(c, name="attention")(x, bias=bias)
    if self.reads:
      x = x + Attention(c, name="cross")(x, codes)
    x = x + Mlp(c, name="mlp")(x)
    return rearrange(x, f"{tokens} -> {whole}", f=f, h=h, w=w)


class Positions(nn.Module):
  """Depthwise 3 x 3 x 3 convolution; a frame sees those before it.

  Attributes:
    scrambled: read tokens that lie as (place, time) as if they lay as (time,
      place), as the released temporal blocks do.
    dtype: compute dtype.
  """

  scrambled: bool
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b,f,h,w,d] -> [b,f,h,w,d]."""
    _, f, h, w, d = x.shape
    kernel = self.param("kernel", nn.initializers.normal(0.1), (3, 3, 3, d))
    bias = self.param("bias", nn.initializers.zeros, (d,))
    straight, turned = "b (f h w) d", "b (h w f) d"
    if self.scrambled:
      x = rearrange(x, f"b f h w d -> {turned}")
      x = rearrange(x, f"{straight} -> b f h w d", f=f, h=h)
    padded = jnp.pad(x.astype(self.dtype),
                     ((0, 0), (2, 0), (1, 1), (1, 1), (0, 0)))
    y = jnp.broadcast_to(bias.astype(self.dtype), x.shape)
    # Taps that reach before the first frame only would add nothing.
    taps = itertools.product(range(max(0, 3 - f), 3), range(3), range(3))
    for i, j, k in taps:
      y = y + padded[:, i:i + f, j:j + h, k:k + w] * kernel[i, j, k].astype(
          self.dtype)
    if self.scrambled:
      y = rearrange(y, f"b f h w d -> {straight}")
      y = rearrange(y, f"{turned} -> b f h w d", f=f, h=h)
    return y


class Attention(nn.Module):
  """Attention by the cosine of queries and keys, to itself or to a context.

  Only queries are normalised in self-attention; keys and values are of the
  tokens as they come.
  """

  config: Config

  @nn.compact
  def __call__(self, x: types.Array, context: types.Array | None = None,
               bias: types.Array | None = None) -> types.Array:
    """[b,l,d], context [b,m,d] or None, bias [n,l,l] -> [b,l,d]."""
    c = self.config

    def heads(name, x):
      x = nn.Dense(c.heads * c.head_width, use_bias=False, dtype=c.dtype,
                   name=name)(x)
      return rearrange(x, "b l (n k) -> b l n k", n=c.heads)

    if context is not None:
      context = norm.LayerNorm(
          _EPSILON, bias=False, name="context_norm")(context)
    source = x if context is None else context
    q = heads("q", norm.LayerNorm(_EPSILON, bias=False, name="norm")(x))
    k, v = heads("k", source), heads("v", source)
    if context is not None:
      null = self.param("null", nn.initializers.normal(1.0),
                        (c.heads, 2 * _NULLS, c.head_width))
      # A key, its value, the next key, its value.
      nulls = repeat(null.astype(v.dtype), "n (m s) k -> s b m n k",
                     s=2, b=len(x))
      k = jnp.concatenate([nulls[0], k], axis=1)  # b m+nulls n k
      v = jnp.concatenate([nulls[1], v], axis=1)
    ones = nn.initializers.ones
    q = _unit(q) * self.param("q_scale", ones, (c.head_width,))
    k = _unit(k) * self.param("k_scale", ones, (c.head_width,))
    y = attention.attend(q, k, v, bias=bias, scale=_LOGIT_SCALE)
    y = rearrange(y, "b l n k -> b l (n k)")
    return nn.Dense(c.width, use_bias=False, dtype=c.dtype, name="o")(y)


def _unit(x):
  """x at length 1, in float32."""
  x = x.astype(jnp.float32)
  square = jnp.sum(x * x, -1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, 1e-24))


class Mlp(nn.Module):
  """Layer norm, 8/3 as wide, gated by GELU, and back; no biases."""

  config: Config

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[...,d] -> [...,d]."""
    c = self.config
    inner = int(4 * (2 / 3) * c.width)  # rounded as the release rounds it
    x = norm.LayerNorm(_EPSILON, name="norm")(x)
    x = nn.Dense(2 * inner, use_bias=False, dtype=c.dtype, name="in")(x)
    x, gate = jnp.split(x, 2, axis=-1)
    x = x * jax.nn.gelu(gate, approximate=False)
    return nn.Dense(c.width, use_bias=False, dtype=c.dtype, name="out")(x)
