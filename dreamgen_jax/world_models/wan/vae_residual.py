"""The levels of Wan 2.2's autoencoder: Wan 2.1's, with a way around each.

Source: Wan2.2 `wan/modules/vae2_2.py`. The way around has no parameters:
downwards it averages pixels and frames together with groups of channels,
upwards it repeats channels and spreads them over pixels and frames.
"""

import jax.numpy as jnp
from einops import rearrange, reduce, repeat
from flax import linen as nn

from dreamgen_jax import errors, types
from dreamgen_jax.layers import conv
from dreamgen_jax.world_models.wan import vae_blocks


def average(x: types.Array, features: int, time: int,
            space: int) -> types.Array:
  """Averages `time` frames, `space` x `space` pixels and groups of channels.

  Args:
    x: [b, f, h, w, c]; a lone first frame is averaged with zeros.
    features: channels that come out; they divide c * time * space**2.
    time, space: 1 or 2.

  Returns:
    [b, ceil(f / time), h / space, w / space, features].

  Raises:
    ConfigError: the channels do not divide.
  """
  _must_divide(x.shape[-1] * time * space**2, features)
  x = jnp.pad(x, ((0, 0), (-x.shape[1] % time, 0), (0, 0), (0, 0), (0, 0)))
  x = rearrange(x, "b (f p) (h q) (w r) c -> b f h w (c p q r)",
                p=time, q=space, r=space)
  return reduce(x, "b f h w (d g) -> b f h w d", "mean", d=features)


def spread(x: types.Array, features: int, time: int, space: int,
           starts: bool) -> types.Array:
  """Repeats channels and spreads them over frames and pixels.

  Args:
    x: [b, f, h, w, c].
    features: channels that come out; c divides features * time * space**2.
    time, space: 1 or 2.
    starts: the clip starts here; its frame 0 stays single.

  Returns:
    [b, f * time - (time - 1 where it starts), h * space, w * space, features].

  Raises:
    ConfigError: the channels do not divide.
  """
  _must_divide(features * time * space**2, x.shape[-1])
  count = features * time * space**2 // x.shape[-1]
  x = repeat(x, "b f h w c -> b f h w (c g)", g=count)
  x = rearrange(x, "b f h w (c p q r) -> b (f p) (h q) (w r) c",
                p=time, q=space, r=space)
  return x[:, time - 1 :] if starts else x


def _must_divide(whole: int, part: int) -> None:
  if whole % part:
    raise errors.ConfigError(
        f"A level's shortcut cannot share {whole} channels out to {part}; "
        "choose base_dim and dim_mult so that they divide.")


class DownLevel(nn.Module):
  """Residual blocks and a halving, and the average around them.

  Attributes:
    features: channels that come out.
    blocks: how many residual blocks.
    halve_space, halve_time: what the level halves.
    dtype: of the computation.
  """

  features: int
  blocks: int
  halve_space: bool
  halve_time: bool
  dtype: str

  @nn.compact
  def __call__(self, x: types.Array,
               history: conv.History | None = None) -> types.Array:
    """[b, f, h, w, c] -> [b, f', h', w', features]."""
    around = average(x, self.features, 1 + self.halve_time,
                     1 + self.halve_space)
    for block in range(self.blocks):
      x = vae_blocks.ResidualBlock(
          self.features, self.dtype, name=f"res_{block}")(x, history)
    if self.halve_space:
      x = vae_blocks.Downsample(
          self.halve_time, self.dtype, name="down")(x, history)
    return x + around


class UpLevel(nn.Module):
  """Residual blocks and, above the last, a doubling with a way around.

  Attributes:
    features: channels that come out.
    blocks: how many residual blocks.
    double_space, double_time: what the level doubles.
    dtype: of the computation.
  """

  features: int
  blocks: int
  double_space: bool
  double_time: bool
  dtype: str

  @nn.compact
  def __call__(self, x: types.Array,
               history: conv.History | None = None) -> types.Array:
    """[b, f, h, w, c] -> [b, f', h', w', features]."""
    start = x
    for block in range(self.blocks):
      x = vae_blocks.ResidualBlock(
          self.features, self.dtype, name=f"res_{block}")(x, history)
    if not self.double_space:
      return x
    x = vae_blocks.Upsample(
        self.features, self.double_time, self.dtype, name="up")(x, history)
    return x + spread(start, self.features, 1 + self.double_time, 2,
                      conv.starts(history))
