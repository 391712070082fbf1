"""The video autoencoder of Wan 2.1 (also of Wan 2.2-A14B, Cosmos-Predict2).

Source: Wan2.1 `wan/modules/vae.py`, in the whole-clip form, which equals the
original's loop over four frames with feature caches. Reads video
[b, f, h, w, 3] in [-1, 1] with f = 4n + 1; returns latents
[b, t, h / 8, w / 8, z] with t = n + 1. Strictly causal: latent frame 0
depends on video frame 0 alone.

  encoder: conv_in, 4 levels (residual blocks, then halve space and, twice,
    time), middle (residual, attention within a frame, residual), head.
  decoder: the mirror image, one more residual block a level.
"""

import dataclasses

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from dreamgen_jax import errors, interfaces, types
from dreamgen_jax.layers import conv

_ZEROS = nn.initializers.zeros_init()


@dataclasses.dataclass(frozen=True)
class VaeConfig:
  """Sizes of the autoencoder; the defaults are the released checkpoint's.

  Attributes:
    base_dim: channels at full resolution.
    z_dim: channels of a latent.
    dim_mult: channels of each level, in units of base_dim; every level but
      the last halves the picture.
    num_res_blocks: residual blocks of an encoder level (decoder: one more).
    temporal_downsample: for each halving of space, whether it halves time.
    latents_mean, latents_std: z_dim values each, of the normalised latent.
    dtype: of the computation.
  """

  base_dim: int = 96
  z_dim: int = 16
  dim_mult: tuple[int, ...] = (1, 2, 4, 4)
  num_res_blocks: int = 2
  temporal_downsample: tuple[bool, ...] = (False, True, True)
  latents_mean: tuple[float, ...] = (
      -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
      0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
  )
  latents_std: tuple[float, ...] = (
      2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
      3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
  )
  dtype: str = "float32"

  @property
  def space_factor(self) -> int:
    """Pixels per latent pixel, along height and along width."""
    return 2 ** (len(self.dim_mult) - 1)

  @property
  def time_factor(self) -> int:
    """Video frames per latent frame after the first."""
    return 2 ** sum(self.temporal_downsample)

  @property
  def widths(self) -> tuple[int, ...]:
    """Channels of each level, finest first."""
    return tuple(self.base_dim * mult for mult in self.dim_mult)


PRESETS = {
    "released": VaeConfig(),
    # Halves space twice, not three times: at 64 pixels more would be lost.
    "nano": VaeConfig(
        base_dim=8,
        z_dim=8,
        dim_mult=(1, 4, 8),
        num_res_blocks=1,
        temporal_downsample=(True, True),
        latents_mean=(0.0,) * 8,
        latents_std=(1.0,) * 8,
    ),
}


class ChannelNorm(nn.Module):
  """Scales every position's channels to length sqrt(c), then by gamma."""

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[..., c] -> [..., c]."""
    channels = x.shape[-1]
    gamma = self.param("gamma", nn.initializers.ones_init(), (channels,))
    wide = x.astype(jnp.float32)
    square = jnp.sum(wide * wide, axis=-1, keepdims=True)
    # The original divides by max(length, 1e-12).
    scale = jax.lax.rsqrt(jnp.maximum(square, 1e-24)) * channels**0.5
    return (wide * scale * gamma).astype(x.dtype)


class ResidualBlock(nn.Module):
  """Two causal convolutions beside a shortcut."""

  features: int
  dtype: str

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b, f, h, w, c] -> [b, f, h, w, features]."""
    y = nn.silu(ChannelNorm(name="norm1")(x))
    y = conv.CausalConv3d(self.features, dtype=self.dtype, name="conv1")(y)
    y = nn.silu(ChannelNorm(name="norm2")(y))
    y = conv.CausalConv3d(
        self.features, dtype=self.dtype, kernel_init=_ZEROS, name="conv2"
    )(y)
    if x.shape[-1] != self.features:
      x = nn.Dense(self.features, dtype=self.dtype, name="shortcut")(x)
    return x + y


class FrameAttention(nn.Module):
  """One head of attention among the pixels of each frame."""

  dtype: str

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b, f, h, w, c] -> [b, f, h, w, c]."""
    batch, _, height, _, channels = x.shape
    y = ChannelNorm(name="norm")(x)
    y = nn.Dense(3 * channels, dtype=self.dtype, name="qkv")(y)
    y = rearrange(y, "b f h w c -> (b f) (h w) 1 c")
    q, k, v = jnp.split(y, 3, axis=-1)  # (b f) (h w) 1 c
    y = jax.nn.dot_product_attention(q, k, v)
    y = rearrange(y, "(b f) (h w) 1 c -> b f h w c", b=batch, h=height)
    out = nn.Dense(channels, dtype=self.dtype, kernel_init=_ZEROS, name="out")
    return x + out(y)


class Middle(nn.Module):
  """Residual block, attention, residual block at the coarsest level."""

  features: int
  dtype: str

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b, t, h, w, features] -> the same shape."""
    x = ResidualBlock(self.features, self.dtype, name="res_0")(x)
    x = FrameAttention(self.dtype, name="attention")(x)
    return ResidualBlock(self.features, self.dtype, name="res_1")(x)


class Downsample(nn.Module):
  """Halves height and width and, if asked, the frames after the first."""

  halve_time: bool
  dtype: str

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b, f, h, w, c] -> [b, f', h / 2, w / 2, c]; f' is f or (f + 1) / 2."""
    x = conv.CausalConv3d(
        x.shape[-1], (1, 3, 3), (1, 2, 2), pad_space=((0, 1), (0, 1)),
        dtype=self.dtype, name="conv",
    )(x)  # b f h/2 w/2 c
    if not self.halve_time:
      return x
    # Frame 0 passes; the others see frames (0, 1, 2), (2, 3, 4), ...
    rest = conv.CausalConv3d(
        x.shape[-1], (3, 1, 1), (2, 1, 1), 0, ((0, 0), (0, 0)),
        dtype=self.dtype, name="time_conv",
    )(x)
    return jnp.concatenate([x[:, :1], rest], axis=1)  # b (f+1)/2 h/2 w/2 c


class Upsample(nn.Module):
  """Doubles height and width and, if asked, the frames after the first."""

  features: int
  double_time: bool
  dtype: str

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b, f, h, w, c] -> [b, f', 2h, 2w, features]; f' is f or 2f - 1."""
    if self.double_time:
      # The later frames do not see frame 0: the original resets its cache.
      rest = conv.CausalConv3d(
          2 * x.shape[-1], (3, 1, 1), pad_space=((0, 0), (0, 0)),
          dtype=self.dtype, name="time_conv",
      )(x[:, 1:])
      rest = rearrange(rest, "b f h w (two c) -> b (f two) h w c", two=2)
      x = jnp.concatenate([x[:, :1], rest], axis=1)  # b (2f-1) h w c
    x = jnp.repeat(jnp.repeat(x, 2, axis=2), 2, axis=3)  # b f 2h 2w c
    return conv.CausalConv3d(
        self.features, (1, 3, 3), dtype=self.dtype, name="conv"
    )(x)


class Encoder(nn.Module):
  """Video to the mean and log variance of its latent."""

  config: VaeConfig

  @nn.compact
  def __call__(self, video: types.Array) -> types.Array:
    """[b, f, h, w, 3] in [-1, 1] -> moments [b, t, h', w', 2 z]."""
    c = self.config
    x = conv.CausalConv3d(c.base_dim, dtype=c.dtype, name="conv_in")(video)
    block = 0  # Counts residual blocks and halvings alike, as released.
    for level, width in enumerate(c.widths):
      for _ in range(c.num_res_blocks):
        x = ResidualBlock(width, c.dtype, name=f"block_{block}")(x)
        block += 1
      if level < len(c.widths) - 1:
        halve_time = c.temporal_downsample[level]
        x = Downsample(halve_time, c.dtype, name=f"block_{block}")(x)
        block += 1
    x = Middle(c.widths[-1], c.dtype, name="middle")(x)  # b t h/8 w/8 c
    x = nn.silu(ChannelNorm(name="norm_out")(x))
    x = conv.CausalConv3d(2 * c.z_dim, dtype=c.dtype, name="conv_out")(x)
    return nn.Dense(2 * c.z_dim, dtype=c.dtype, name="quant")(x)


class Decoder(nn.Module):
  """Latent to video, not yet clamped."""

  config: VaeConfig

  @nn.compact
  def __call__(self, z: types.Array) -> types.Array:
    """[b, t, h', w', z] -> [b, f, h, w, 3]."""
    c = self.config
    x = nn.Dense(c.z_dim, dtype=c.dtype, name="post_quant")(z)
    x = conv.CausalConv3d(c.widths[-1], dtype=c.dtype, name="conv_in")(x)
    x = Middle(c.widths[-1], c.dtype, name="middle")(x)
    double_time = c.temporal_downsample[::-1]
    for level, width in enumerate(c.widths[::-1]):
      for block in range(c.num_res_blocks + 1):
        name = f"level_{level}_res_{block}"
        x = ResidualBlock(width, c.dtype, name=name)(x)
      if level < len(c.widths) - 1:
        name = f"level_{level}_up"
        x = Upsample(width // 2, double_time[level], c.dtype, name=name)(x)
    x = nn.silu(ChannelNorm(name="norm_out")(x))  # b f h w base_dim
    return conv.CausalConv3d(3, dtype=c.dtype, name="conv_out")(x)


def latent_shape(
    config: VaeConfig, frames: int, height: int, width: int
) -> tuple[int, int, int, int]:
  """Shape (t, h', w', z) of the latent of a clip.

  Raises:
    ConfigError: the clip does not divide into latent frames and pixels.
  """
  time, space = config.time_factor, config.space_factor
  if (frames - 1) % time or height % space or width % space:
    raise errors.ConfigError(
        f"A clip of {frames} frames of {height}x{width} pixels has no latent: "
        f"frames must be 1 plus a multiple of {time}, height and width "
        f"multiples of {space}."
    )
  return (
      1 + (frames - 1) // time, height // space, width // space, config.z_dim
  )


def init(config: VaeConfig, rng: types.Array) -> interfaces.Params:
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
    config: VaeConfig, params: interfaces.Params, video: types.Array
) -> types.Array:
  """Video [b, f, h, w, 3] in [-1, 1] -> moments [b, t, h', w', 2 z].

  Raises:
    ConfigError: the clip does not divide into latent frames and pixels.
  """
  latent_shape(config, *video.shape[1:4])
  return Encoder(config).apply({"params": params["encoder"]}, video)


def decode(
    config: VaeConfig, params: interfaces.Params, z: types.Array
) -> types.Array:
  """Latent [b, t, h', w', z], not normalised -> video [b, f, h, w, 3]."""
  return jnp.clip(reconstruct(config, params, z), -1.0, 1.0)


def reconstruct(
    config: VaeConfig, params: interfaces.Params, z: types.Array
) -> types.Array:
  """`decode` without the clamp, which would stop gradients in training."""
  return Decoder(config).apply({"params": params["decoder"]}, z)


def mode(moments: types.Array) -> types.Array:
  """The posterior's mean: moments [..., 2 z] -> [..., z]."""
  return jnp.split(moments, 2, axis=-1)[0]


def sample(moments: types.Array, rng: types.Array) -> types.Array:
  """A draw from the posterior: moments [..., 2 z] -> [..., z]."""
  mean, log_variance = jnp.split(moments, 2, axis=-1)
  deviation = jnp.exp(0.5 * jnp.clip(log_variance, -30.0, 20.0))
  return mean + deviation * jax.random.normal(rng, mean.shape, mean.dtype)


def divergence(moments: types.Array) -> types.Array:
  """Kullback-Leibler divergence from a unit normal; mean over all numbers."""
  mean, log_variance = jnp.split(moments, 2, axis=-1)
  log_variance = jnp.clip(log_variance, -30.0, 20.0)
  each = mean**2 + jnp.exp(log_variance) - 1.0 - log_variance
  return 0.5 * jnp.mean(each)


def normalise(config: VaeConfig, z: types.Array) -> types.Array:
  """Latent [..., z] of the autoencoder -> what diffusion works on."""
  mean, std = _statistics(config, z.dtype)
  return (z - mean) / std


def denormalise(config: VaeConfig, latent: types.Array) -> types.Array:
  """The inverse of `normalise`."""
  mean, std = _statistics(config, latent.dtype)
  return latent * std + mean


def _statistics(config, dtype):
  mean, std = config.latents_mean, config.latents_std
  if not len(mean) == len(std) == config.z_dim:
    raise errors.ConfigError(
        f"latents_mean and latents_std have {len(mean)} and {len(std)} "
        f"numbers; z_dim asks for {config.z_dim}."
    )
  return jnp.asarray(mean, dtype), jnp.asarray(std, dtype)
