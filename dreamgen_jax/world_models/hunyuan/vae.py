"""The video autoencoder of HunyuanVideo (arXiv 2412.03603).

Reads video [b, f, h, w, 3] in [-1, 1] with f = 4n + 1; returns latents
[b, t, h / 8, w / 8, z] with t = n + 1. Convolutions see no later frame, and
edges repeat in time and space; but the norms' statistics run over all frames
at once, so how a clip is cut is part of the function: one of more than `tile`
frames goes through in tiles that overlap in time, whose results fade over.

  encoder: conv_in, levels (residual blocks, then halve space or time or
    both), middle (residual, attention, residual), head.
  decoder: the mirror image, one more residual block a level.
"""

import dataclasses
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from dreamgen_jax import errors, interfaces, types
from dreamgen_jax.layers import attention, conv, latent, posterior

_EPSILON = 1e-6
mode = posterior.mode


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of the autoencoder; the defaults are the released checkpoint's.

  Attributes:
    z_dim: channels of a latent.
    widths: channels of each level, finest first.
    num_res_blocks: residual blocks of an encoder level (decoder: one more).
    groups: of the norms.
    scale: the normalised latent is the autoencoder's times this.
    space_factor, time_factor: pixels and frames of a latent one; powers of 2.
      Space is halved by the finest levels, time by the coarsest but the last.
    tile, stride: video frames of a tile (one more, to be exact) and between
      the starts of two.
    dtype: of the computation.
  """

  z_dim: int = 16
  widths: tuple[int, ...] = (128, 256, 512, 512)
  num_res_blocks: int = 2
  groups: int = 32
  scale: float = 0.476986
  space_factor: int = 8
  time_factor: int = 4
  tile: int = 16
  stride: int = 12
  dtype: str = "float32"

  def __post_init__(self):
    if any(width % self.groups for width in self.widths):
      raise errors.ConfigError(
          f"widths {self.widths} of the autoencoder must be multiples of its "
          f"groups, {self.groups}.")

  def changes(self, level: int) -> tuple[bool, bool]:
    """(time, space): what changes by 2 behind a level, counted either way."""
    last = len(self.widths) - 1
    halvings = self.time_factor.bit_length() - 1
    return (last - halvings <= level < last,
            level < self.space_factor.bit_length() - 1)


PRESETS = {
    "released": Config(),
    "nano": Config(widths=(16, 16, 32, 32), num_res_blocks=1, groups=4),
}


class Conv(nn.Module):
  """3x3x3 convolution; in front of the first frame stands the first."""

  features: int
  dtype: str
  strides: tuple[int, int, int] = (1, 1, 1)

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b, f, h, w, c] -> [b, f', h', w', features]."""
    x = jnp.pad(x, ((0, 0), (2, 0), (1, 1), (1, 1), (0, 0)), "edge")
    return conv.CausalConv3d(
        self.features, strides=self.strides, pad_time=0,
        pad_space=((0, 0), (0, 0)), dtype=self.dtype, name="conv")(x)


def _norm(config: Config, name: str) -> nn.GroupNorm:
  return nn.GroupNorm(config.groups, epsilon=_EPSILON, dtype=config.dtype,
                      use_fast_variance=False, name=name)


class ResidualBlock(nn.Module):
  """Two convolutions beside a shortcut."""

  config: Config
  features: int

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b, f, h, w, c] -> [b, f, h, w, features]."""
    c = self.config
    y = nn.silu(_norm(c, "norm1")(x))
    y = Conv(self.features, c.dtype, name="conv1")(y)
    y = nn.silu(_norm(c, "norm2")(y))
    y = Conv(self.features, c.dtype, name="conv2")(y)
    if x.shape[-1] != self.features:
      x = nn.Dense(self.features, dtype=c.dtype, name="shortcut")(x)
    return x + y


class FrameCausalAttention(nn.Module):
  """One head among the pixels of a frame and of all frames before it."""

  config: Config

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b, t, h, w, c] -> [b, t, h, w, c]."""
    height, channels = x.shape[2], x.shape[-1]
    y = _norm(self.config, "norm")(x)
    q, k, v = (
        rearrange(
            nn.Dense(channels, dtype=self.config.dtype, name=name)(y),
            "b t h w c -> b t (h w) 1 c") for name in "qkv")
    frames = []  # one at a time: no mask, and the logits are that much smaller
    for t in range(x.shape[1]):
      seen = [rearrange(z[:, :t + 1], "b t l 1 c -> b (t l) 1 c")
              for z in (k, v)]
      frames.append(attention.attend(q[:, t], *seen))  # b (h w) 1 c
    y = rearrange(jnp.stack(frames, axis=1), "b t (h w) 1 c -> b t h w c",
                  h=height)
    return x + nn.Dense(channels, dtype=self.config.dtype, name="o")(y)


class Middle(nn.Module):
  """Residual block, attention, residual block at the coarsest level."""

  config: Config

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b, t, h, w, c] -> the same shape."""
    c = self.config
    x = ResidualBlock(c, x.shape[-1], name="res_0")(x)
    x = FrameCausalAttention(c, name="attention")(x)
    return ResidualBlock(c, x.shape[-1], name="res_1")(x)


class Encoder(nn.Module):
  """Video to the mean and log variance of its latent."""

  config: Config

  @nn.compact
  def __call__(self, video: types.Array) -> types.Array:
    """[b, f, h, w, 3] in [-1, 1] -> moments [b, t, h', w', 2 z]."""
    c = self.config
    x = Conv(c.widths[0], c.dtype, name="conv_in")(video)
    for level, width in enumerate(c.widths):
      for block in range(c.num_res_blocks):
        x = ResidualBlock(c, width, name=f"level_{level}_res_{block}")(x)
      time, space = c.changes(level)
      if time or space:
        strides = (1 + time, 1 + space, 1 + space)
        x = Conv(width, c.dtype, strides, name=f"level_{level}_down")(x)
    x = Middle(c, name="middle")(x)  # b t h/8 w/8 c
    x = nn.silu(_norm(c, "norm_out")(x))
    x = Conv(2 * c.z_dim, c.dtype, name="conv_out")(x)
    return nn.Dense(2 * c.z_dim, dtype=c.dtype, name="quant")(x)


class Decoder(nn.Module):
  """Latent to video, not yet clamped."""

  config: Config

  @nn.compact
  def __call__(self, z: types.Array) -> types.Array:
    """[b, t, h', w', z] -> [b, f, h, w, 3]."""
    c = self.config
    x = nn.Dense(c.z_dim, dtype=c.dtype, name="post_quant")(z)
    x = Conv(c.widths[-1], c.dtype, name="conv_in")(x)
    x = Middle(c, name="middle")(x)
    for level, width in enumerate(c.widths[::-1]):
      for block in range(c.num_res_blocks + 1):
        x = ResidualBlock(c, width, name=f"level_{level}_res_{block}")(x)
      time, space = c.changes(level)
      if time:  # every frame twice, but the first
        x = jnp.repeat(x, 2, axis=1)[:, 1:]
      if space:
        x = jnp.repeat(jnp.repeat(x, 2, axis=2), 2, axis=3)
      if time or space:
        x = Conv(width, c.dtype, name=f"level_{level}_up")(x)
    x = nn.silu(_norm(c, "norm_out")(x))  # b f h w c
    return Conv(3, c.dtype, name="conv_out")(x)


def latent_shape(
    config: Config, frames: int, height: int, width: int
) -> tuple[int, int, int, int]:
  """Shape (t, h', w', z) of the latent of a clip, see `layers.latent.grid`."""
  grid = latent.grid(frames, height, width, time=config.time_factor,
                     space=config.space_factor)
  return *grid, config.z_dim


def init(config: Config, rng: types.Array) -> interfaces.Params:
  """Fresh parameters {"encoder": ..., "decoder": ...}."""
  keys = jax.random.split(rng)
  frames, size = 1 + config.time_factor, config.space_factor
  video = jnp.zeros((1, frames, size, size, 3), config.dtype)
  z = jnp.zeros((1, *latent_shape(config, frames, size, size)), config.dtype)
  return {
      "encoder": Encoder(config).init(keys[0], video)["params"],
      "decoder": Decoder(config).init(keys[1], z)["params"],
  }


def encode(
    config: Config, params: interfaces.Params, video: types.Array
) -> types.Array:
  """Video [b, f, h, w, 3] in [-1, 1] -> moments [b, t, h', w', 2 z].

  Raises:
    ConfigError: the clip does not divide into latent frames and pixels.
  """
  latent_shape(config, *video.shape[1:4])

  def run(x):
    return Encoder(config).apply({"params": params["encoder"]}, x)

  if video.shape[1] <= config.tile:
    return run(video)
  span, keep = (x // config.time_factor for x in (config.tile, config.stride))
  return _in_tiles(run, video, config.tile, config.stride, span - keep, keep)


def decode(
    config: Config, params: interfaces.Params, z: types.Array
) -> types.Array:
  """Latent [b, t, h', w', z], not normalised -> video [b, f, h, w, 3]."""
  return jnp.clip(reconstruct(config, params, z), -1.0, 1.0)


def reconstruct(
    config: Config, params: interfaces.Params, z: types.Array
) -> types.Array:
  """`decode` without the clamp, which would stop gradients in training."""

  def run(x):
    return Decoder(config).apply({"params": params["decoder"]}, x)

  span, stride = (x // config.time_factor for x in (config.tile, config.stride))
  if z.shape[1] <= span:
    return run(z)
  return _in_tiles(run, z, span, stride, config.tile - config.stride,
                   config.stride)


def _in_tiles(run: Callable[[types.Array], types.Array], x: types.Array,
              span: int, stride: int, fade: int, keep: int) -> types.Array:
  """Runs overlapping tiles of span + 1 frames, which start `stride` apart.

  Of each but the first, the first frame of the result is left out: it is the
  one that has no past. Its next `fade` frames go over from the tile before,
  whose results overlap; `keep` frames of each tile are kept.

  Args:
    run: [b, f, ...] -> [b, f', ...].
    x: [b, f, ...] with f > span.

  Returns:
    [b, f', ...] as of one run.
  """
  frames = x.shape[1]
  starts = range(0, frames - 1, stride)
  full = [start for start in starts if start + span < frames]
  tiles = list(jax.lax.map(run, jnp.stack(
      [x[:, start:start + span + 1] for start in full])))  # one in memory
  tiles += [run(x[:, start:]) for start in starts[len(full):]]
  out = [tiles[0][:, :keep + 1]]
  for before, tile in itertools.pairwise(tiles):
    tile = tile[:, 1:]
    count = min(fade, tile.shape[1])
    weight = (jnp.arange(count) / fade).astype(x.dtype).reshape(-1, 1, 1, 1)
    tail = before[:, before.shape[1] - fade:][:, :count]
    mixed = tail * (1 - weight) + tile[:, :count] * weight
    out.append(jnp.concatenate([mixed, tile[:, count:keep]], axis=1))
  return jnp.concatenate(out, axis=1)
