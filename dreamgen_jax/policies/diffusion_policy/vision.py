"""ResNet with GroupNorm, spatial softmax and language FiLM.

Sources: the hybrid image encoder of real-stanford/diffusion_policy
(robomimic's ResNet18Conv + SpatialSoftmax + Linear 64, BatchNorm replaced by
GroupNorm of C / 16 groups, because a moving average of parameters breaks
BatchNorm) and torchvision's ResNet-18 for the order of layers. Language enters
after every residual block as FiLM that starts at the identity, the practice of
RT-1 (arXiv 2212.06817) and of BridgeData V2 (arXiv 2308.12952); the released
Diffusion Policy has no language.
"""

import dataclasses
from collections.abc import Sequence

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax import errors

GROUP_EPSILON = 1e-5
CHANNELS_PER_GROUP = 16


@dataclasses.dataclass(frozen=True)
class Config:
  """A ResNet of basic blocks; the defaults are ResNet-18.

  Attributes:
    widths: channels per stage.
    blocks: basic blocks per stage.
    strides: stride of each stage's first block.
    stem_kernel, stem_stride: the first convolution, to widths[0] channels.
    stem_norm: GroupNorm after it; without, a colour looks the same whatever
      else is in the picture.
    stem_pool: 3x3 stride-2 max pool after it.
    keypoints: maps of the spatial softmax.
    temperature: of that softmax; fresh maps see the whole image alike at 1,
      and learn to point sooner when it is lower.
    flat: maps that are read pixel by pixel beside the keypoints; 0, as
      released, has none. They learn soonest where the camera stands still.
    features: width of the camera's feature vector.
    film: language modulates every residual block.
    query: language says what the keypoints look for.
  """

  widths: Sequence[int] = (64, 128, 256, 512)
  blocks: Sequence[int] = (2, 2, 2, 2)
  strides: Sequence[int] = (1, 2, 2, 2)
  stem_kernel: int = 7
  stem_stride: int = 2
  stem_norm: bool = True
  stem_pool: bool = True
  keypoints: int = 32
  temperature: float = 1.0
  flat: int = 0
  features: int = 64
  film: bool = False
  query: bool = False

  def __post_init__(self):
    for name in ("widths", "blocks", "strides"):
      object.__setattr__(self, name, tuple(getattr(self, name)))
    if not len(self.widths) == len(self.blocks) == len(self.strides):
      raise errors.ConfigError(
          f"vision widths {self.widths}, blocks {self.blocks} and strides "
          f"{self.strides} must have one entry per stage.")
    if any(width % CHANNELS_PER_GROUP for width in self.widths):
      raise errors.ConfigError(
          f"vision widths {self.widths} must be multiples of "
          f"{CHANNELS_PER_GROUP}: GroupNorm has width / 16 groups.")


def _norm(x: jax.Array, dtype: str, name: str) -> jax.Array:
  return nn.GroupNorm(x.shape[-1] // CHANNELS_PER_GROUP,
                      epsilon=GROUP_EPSILON, dtype=dtype, name=name)(x)


def _conv(x: jax.Array, width: int, kernel: int, stride: int, dtype: str,
          name: str, bias: bool = False) -> jax.Array:
  pad = kernel // 2  # symmetric as torch's; "SAME" would shift by a pixel
  return nn.Conv(width, (kernel, kernel), (stride, stride),
                 padding=[(pad, pad)] * 2, use_bias=bias, dtype=dtype,
                 name=name)(x)


class BasicBlock(nn.Module):
  """[b, h, w, c], language [b, e] or None -> [b, h/stride, w/stride, width]."""

  width: int
  stride: int
  dtype: str

  @nn.compact
  def __call__(self, x: jax.Array, text: jax.Array | None) -> jax.Array:
    y = _conv(x, self.width, 3, self.stride, self.dtype, "conv_0")
    y = jax.nn.relu(_norm(y, self.dtype, "norm_0"))
    y = _conv(y, self.width, 3, 1, self.dtype, "conv_1")
    y = _norm(y, self.dtype, "norm_1")
    if x.shape != y.shape:
      x = _conv(x, self.width, 1, self.stride, self.dtype, "skip")
      x = _norm(x, self.dtype, "skip_norm")
    x = jax.nn.relu(x + y)
    if text is not None:
      film = nn.Dense(2 * self.width, kernel_init=nn.initializers.zeros,
                      dtype=self.dtype, name="film")(text)
      scale, shift = jnp.split(film[:, None, None], 2, axis=-1)
      x = x * (1 + scale) + shift
    return x


class SpatialSoftmax(nn.Module):
  """Where each of k maps looks: [b, h, w, c] -> f32[b, k, 2] in [-1, 1].

  The last axis is (x, y), x to the right and y down. Source: robomimic's and
  lerobot's SpatialSoftmax (Finn et al., 1509.06113). With a sentence [b, e],
  that makes the maps' weights, as queries of an attention.
  """

  keypoints: int
  temperature: float = 1.0

  @nn.compact
  def __call__(self, x: jax.Array,
               text: jax.Array | None = None) -> jax.Array:
    h, w, c = x.shape[1:]
    x = x.astype(jnp.float32)
    if text is None:
      maps = nn.Conv(self.keypoints, (1, 1), name="maps")(x)  # b h w k
    else:
      query = nn.Dense(self.keypoints * c, name="query")(text)
      query = einops.rearrange(query, "b (k c) -> b k c", c=c) / c**0.5
      maps = jnp.einsum("bhwc,bkc->bhwk", x, query)
    maps = einops.rearrange(maps, "b h w k -> b k (h w)")
    weights = jax.nn.softmax(maps / self.temperature, axis=-1)
    grid = np.stack(
        np.meshgrid(np.linspace(-1, 1, w), np.linspace(-1, 1, h)), axis=-1)
    grid = einops.rearrange(grid, "h w xy -> (h w) xy").astype(np.float32)
    # Full precision: bfloat16 passes would round positions to a pixel.
    return jnp.matmul(weights, grid, precision="highest")  # b k 2


class ImageEncoder(nn.Module):
  """One camera: f32[b, h, w, 3] in [-1, 1], text [b, e] -> f32[b, features].
  """

  config: Config
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: jax.Array, text: jax.Array | None = None) -> jax.Array:
    c = self.config
    x = x.astype(self.dtype)
    x = _conv(x, c.widths[0], c.stem_kernel, c.stem_stride, self.dtype, "stem",
              bias=not c.stem_norm)
    x = jax.nn.relu(_norm(x, self.dtype, "stem_norm") if c.stem_norm else x)
    if c.stem_pool:
      x = nn.max_pool(x, (3, 3), (2, 2), padding=[(1, 1)] * 2)  # b h/2 w/2 c
    for i, (width, count, stride) in enumerate(
        zip(c.widths, c.blocks, c.strides, strict=True)):
      for j in range(count):
        x = BasicBlock(width, stride if j == 0 else 1, self.dtype,
                       name=f"stage_{i}_{j}")(x, text if c.film else None)
    points = SpatialSoftmax(c.keypoints, c.temperature, name="softmax")(
        x, text if c.query else None)
    points = einops.rearrange(points, "b k xy -> b (k xy)")
    if c.flat:
      maps = nn.Conv(c.flat, (1, 1), dtype=self.dtype, name="flat")(x)
      points = jnp.concatenate(
          [points, einops.rearrange(maps, "b h w c -> b (h w c)")], axis=-1)
    points = nn.Dense(c.features, name="project")(points)  # b features
    return jax.nn.relu(points)
