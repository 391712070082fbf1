"""What Wan's video autoencoders are built of.

Every block reads and returns [b, f, h, w, c], split over the mesh along
width, and takes the `history` of a chunked run, or None for a whole clip.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from dreamgen_jax import sharding, types
from dreamgen_jax.layers import conv

ZEROS = nn.initializers.zeros_init()
VIDEO = "b f h w c"


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
  def __call__(self, x: types.Array,
               history: conv.History | None = None) -> types.Array:
    """[b, f, h, w, c] -> [b, f, h, w, features]."""
    y = nn.silu(ChannelNorm(name="norm1")(x))
    y = conv.CausalConv3d(
        self.features, dtype=self.dtype, name="conv1")(y, history)
    y = nn.silu(ChannelNorm(name="norm2")(y))
    y = conv.CausalConv3d(
        self.features, dtype=self.dtype, kernel_init=ZEROS, name="conv2"
    )(y, history)
    if x.shape[-1] != self.features:
      x = nn.Dense(self.features, dtype=self.dtype, name="shortcut")(x)
    return sharding.constrain(x + y, VIDEO)


class FrameAttention(nn.Module):
  """One head of attention among the pixels of each frame."""

  dtype: str

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b, f, h, w, c] -> [b, f, h, w, c]."""
    batch, _, height, _, channels = x.shape
    y = ChannelNorm(name="norm")(x)
    y = nn.Dense(3 * channels, dtype=self.dtype, name="qkv")(y)
    # Width goes first, so that where it is split the tokens are split too.
    y = rearrange(y, "b f h w c -> (b f) (w h) 1 c")
    q, k, v = jnp.split(y, 3, axis=-1)  # (b f) (w h) 1 c
    q = sharding.constrain(q, "b l 1 k")
    k, v = (sharding.constrain(y, "b m 1 k") for y in (k, v))
    y = jax.nn.dot_product_attention(q, k, v)
    y = rearrange(y, "(b f) (w h) 1 c -> b f h w c", b=batch, h=height)
    out = nn.Dense(channels, dtype=self.dtype, kernel_init=ZEROS, name="out")
    return sharding.constrain(x + out(y), VIDEO)


class Middle(nn.Module):
  """Residual block, attention, residual block at the coarsest level."""

  features: int
  dtype: str

  @nn.compact
  def __call__(self, x: types.Array,
               history: conv.History | None = None) -> types.Array:
    """[b, t, h, w, features] -> the same shape."""
    x = ResidualBlock(self.features, self.dtype, name="res_0")(x, history)
    x = FrameAttention(self.dtype, name="attention")(x)
    return ResidualBlock(self.features, self.dtype, name="res_1")(x, history)


class Downsample(nn.Module):
  """Halves height and width and, if asked, the frames after the first."""

  halve_time: bool
  dtype: str

  @nn.compact
  def __call__(self, x: types.Array,
               history: conv.History | None = None) -> types.Array:
    """[b, f, h, w, c] -> [b, f', h / 2, w / 2, c].

    f' is f or, if time is halved, (f + 1) / 2 where the clip starts and f / 2
    in later chunks.
    """
    x = conv.CausalConv3d(
        x.shape[-1], (1, 3, 3), (1, 2, 2), pad_space=((0, 1), (0, 1)),
        dtype=self.dtype, name="conv",
    )(x)  # b f h/2 w/2 c
    if self.halve_time:
      # The clip's frame 0 passes; the others see (0, 1, 2), (2, 3, 4), ...
      rest = conv.CausalConv3d(
          x.shape[-1], (3, 1, 1), (2, 1, 1), 0, ((0, 0), (0, 0)),
          dtype=self.dtype, name="time_conv",
      )(x, history)
      x = (jnp.concatenate([x[:, :1], rest], axis=1)
           if conv.starts(history) else rest)  # b f' h/2 w/2 c
    return sharding.constrain(x, VIDEO)


class Upsample(nn.Module):
  """Doubles height and width and, if asked, the frames after the first."""

  features: int
  double_time: bool
  dtype: str

  @nn.compact
  def __call__(self, x: types.Array,
               history: conv.History | None = None) -> types.Array:
    """[b, f, h, w, c] -> [b, f', 2h, 2w, features].

    f' is f or, if time is doubled, 2 f - 1 where the clip starts and 2 f in
    later chunks.
    """
    if self.double_time:
      # The later frames do not see frame 0: the original resets its cache.
      alone = int(conv.starts(history))
      rest = conv.CausalConv3d(
          2 * x.shape[-1], (3, 1, 1), pad_space=((0, 0), (0, 0)),
          dtype=self.dtype, name="time_conv",
      )(x[:, alone:], history)
      rest = rearrange(rest, "b f h w (two c) -> b (f two) h w c", two=2)
      x = jnp.concatenate([x[:, :alone], rest], axis=1)  # b f' h w c
    x = jnp.repeat(jnp.repeat(x, 2, axis=2), 2, axis=3)  # b f' 2h 2w c
    x = conv.CausalConv3d(
        self.features, (1, 3, 3), dtype=self.dtype, name="conv"
    )(x)
    return sharding.constrain(x, VIDEO)
