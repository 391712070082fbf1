"""The video autoencoder of CogVideoX (arXiv 2408.06072), all versions.

Reads video [b, f, h, w, 3] in [-1, 1] with f = 4n + 1 and returns moments of
latents [b, n + 1, h / 8, w / 8, z]. A clip is worked off in chunks of 8 frames
(2 latent frames), of which the first takes the frames left over. Convolutions
remember the last frames of the chunk before, but the norms' statistics are of
one chunk: chunking is part of the function, and it bounds the memory.

  encoder: conv_in, levels (residual blocks, then halve time in the first two,
    and space), two residual blocks, norm_out, conv_out.
  decoder: the mirror image, one more residual block a level; its norms are
    scaled and shifted by the latent (arXiv 2209.09002).
"""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from dreamgen_jax import errors, interfaces, types
from dreamgen_jax.layers import conv, latent, posterior

ENCODE_FRAMES, DECODE_LATENTS = 8, 2  # of a chunk
_EPSILON = 1e-6
mode = posterior.mode
_ZEROS = nn.initializers.zeros_init()
Memory = tuple[types.Array, ...]  # the last two frames that each conv saw


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of the autoencoder; the defaults are the released checkpoints'.

  Attributes:
    widths: channels of each level, finest first; every level but the last
      halves the picture.
    latent_channels: channels of a latent, z.
    blocks: residual blocks of an encoder level (decoder: one more).
    groups: of channels in the norms.
    time_factor: video frames per latent frame after the first.
    scale: a latent times this is what diffusion works on.
    divides_image: the first frame's latent is divided by `scale` instead, as
      CogVideoX 1.5 was trained by mistake.
    dtype: of the computation.
  """

  widths: tuple[int, ...] = (128, 256, 256, 512)
  latent_channels: int = 16
  blocks: int = 3
  groups: int = 32
  time_factor: int = 4
  scale: float = 0.7
  divides_image: bool = False
  dtype: str = "float32"

  def __post_init__(self):
    levels = len(self.widths) - 1
    if self.time_factor not in [2**n for n in range(levels + 1)]:
      raise errors.ConfigError(
          f"time_factor {self.time_factor} is not a power of 2 that {levels} "
          "halvings reach.")
    if any(width % self.groups for width in self.widths):
      raise errors.ConfigError(
          f"widths {self.widths} do not split into {self.groups} groups.")

  @property
  def space_factor(self) -> int:
    """Pixels per latent pixel, along height and along width."""
    return 2 ** (len(self.widths) - 1)

  @property
  def time_levels(self) -> int:
    """How many levels halve (encoder) or double (decoder) time."""
    return self.time_factor.bit_length() - 1


PRESETS = {
    "cogvideox": Config(),
    "cogvideox1_5": Config(divides_image=True),
    # Halves space twice and time once, so that 64 pixels keep their content.
    "nano": Config(widths=(8, 16, 32), latent_channels=8, blocks=1, groups=4,
                   time_factor=2, scale=1.0),
}


class Window:
  """Puts the frames before a chunk in front of it, convolution by convolution.

  `past` is `seen` of the chunk before, in the same order of calls; None at the
  clip's beginning, where the first frame stands for those before it.
  """

  def __init__(self, past: Memory | None):
    self._past: Iterator[types.Array] | None = past and iter(past)
    self._seen: list[types.Array] = []

  def extend(self, x: types.Array) -> types.Array:
    """[b, f, h, w, c] -> [b, 2 + f, h, w, c]."""
    front = x[:, :1].repeat(2, 1) if self._past is None else next(self._past)
    x = jnp.concatenate([front, x], axis=1)
    self._seen.append(x[:, -2:])
    return x

  @property
  def seen(self) -> Memory:
    """What the next chunk's window needs."""
    return tuple(self._seen)


class Conv(nn.Module):
  """Convolution over three frames and 3x3 pixels, causal across chunks."""

  features: int
  dtype: str
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: types.Array, window: Window) -> types.Array:
    """[b, f, h, w, c] -> [b, f, h, w, features]."""
    layer = conv.CausalConv3d(self.features, pad_time=0, dtype=self.dtype,
                              kernel_init=self.kernel_init, name="conv")
    return layer(window.extend(x))


def _group_norm(groups: int, dtype: str, name: str) -> nn.GroupNorm:
  return nn.GroupNorm(groups, epsilon=_EPSILON, dtype=dtype,
                      use_fast_variance=False, name=name)


def _stretch(z: types.Array, like: types.Array) -> types.Array:
  """Repeats latents [b, t, h', w', c] to the grid [b, f, h, w, ...] of `like`.

  Of an odd number of frames the first one is the clip's first.
  """
  frames = like.shape[1]
  z = z.repeat(like.shape[2] // z.shape[2], 2)
  z = z.repeat(like.shape[3] // z.shape[3], 3)
  if frames % 2 and frames > 1:
    rest = z[:, 1:].repeat((frames - 1) // (z.shape[1] - 1), 1)
    return jnp.concatenate([z[:, :1], rest], axis=1)
  return z.repeat(frames // z.shape[1], 1)


class LatentNorm(nn.Module):
  """Group norm, scaled and shifted by the latent at the same place."""

  groups: int
  dtype: str

  @nn.compact
  def __call__(self, x: types.Array, z: types.Array) -> types.Array:
    """[b, f, h, w, c], latents [b, t, h', w', z] -> [b, f, h, w, c]."""
    width = x.shape[-1]
    # Mapped before it is stretched, which is the same and much less work.
    scale = nn.Dense(width, dtype=self.dtype, kernel_init=_ZEROS,
                     bias_init=nn.initializers.ones, name="scale")(z)
    shift = nn.Dense(width, dtype=self.dtype, kernel_init=_ZEROS,
                     name="shift")(z)
    y = _group_norm(self.groups, self.dtype, "norm")(x)
    return y * _stretch(scale, x) + _stretch(shift, x)


class ResidualBlock(nn.Module):
  """Two convolutions beside a shortcut; with z, norms look at the latent."""

  features: int
  groups: int
  dtype: str

  @nn.compact
  def __call__(self, x: types.Array, window: Window,
               z: types.Array | None = None) -> types.Array:
    """[b, f, h, w, c], latents or None -> [b, f, h, w, features]."""
    def normed(y, name):
      if z is None:
        return nn.silu(_group_norm(self.groups, self.dtype, name)(y))
      return nn.silu(LatentNorm(self.groups, self.dtype, name=name)(y, z))

    y = Conv(self.features, self.dtype, name="conv1")(
        normed(x, "norm1"), window)
    y = Conv(self.features, self.dtype, _ZEROS, name="conv2")(
        normed(y, "norm2"), window)
    if x.shape[-1] != self.features:
      x = nn.Dense(self.features, dtype=self.dtype, name="shortcut")(x)
    return x + y


class Downsample(nn.Module):
  """Halves height and width and, if asked, averages frames in pairs."""

  halve_time: bool
  dtype: str

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b, f, h, w, c] -> [b, f', h / 2, w / 2, c]; f' is f or f / 2, up."""
    if self.halve_time:
      alone = x.shape[1] % 2  # the clip's first frame has no partner
      pairs = rearrange(x[:, alone:], "b (t two) h w c -> b t two h w c", two=2)
      x = jnp.concatenate([x[:, :alone], pairs.mean(2)], axis=1)
    return nn.Conv(x.shape[-1], (3, 3), (2, 2), ((0, 1), (0, 1)),
                   dtype=self.dtype, name="conv")(x)


class Upsample(nn.Module):
  """Doubles height and width and, if asked, all frames but a first one."""

  double_time: bool
  dtype: str

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b, f, h, w, c] -> [b, f', 2h, 2w, c]; f' is f, 2f or, odd, 2f - 1."""
    if self.double_time:
      alone = x.shape[1] % 2
      x = jnp.concatenate([x[:, :alone], x[:, alone:].repeat(2, 1)], axis=1)
    x = x.repeat(2, 2).repeat(2, 3)  # b f' 2h 2w c
    return nn.Conv(x.shape[-1], (3, 3), dtype=self.dtype, name="conv")(x)


class Encoder(nn.Module):
  """One chunk of video to the mean and log variance of its latents."""

  config: Config

  @nn.compact
  def __call__(self, x: types.Array,
               past: Memory | None) -> tuple[types.Array, Memory]:
    """([b, f, h, w, 3], memory) -> ([b, t, h', w', 2 z], memory)."""
    c = self.config
    window = Window(past)
    x = Conv(c.widths[0], c.dtype, name="conv_in")(x, window)
    for level, width in enumerate(c.widths):
      for i in range(c.blocks):
        name = f"level_{level}_res_{i}"
        x = ResidualBlock(width, c.groups, c.dtype, name=name)(x, window)
      if level < len(c.widths) - 1:
        name = f"level_{level}_down"
        x = Downsample(level < c.time_levels, c.dtype, name=name)(x)
    for i in range(2):
      name = f"middle_{i}"
      x = ResidualBlock(c.widths[-1], c.groups, c.dtype, name=name)(x, window)
    x = nn.silu(_group_norm(c.groups, c.dtype, "norm_out")(x))
    x = Conv(2 * c.latent_channels, c.dtype, name="conv_out")(x, window)
    return x, window.seen


class Decoder(nn.Module):
  """One chunk of latents to video, not clamped."""

  config: Config

  @nn.compact
  def __call__(self, z: types.Array,
               past: Memory | None) -> tuple[types.Array, Memory]:
    """([b, t, h', w', z], memory) -> ([b, f, h, w, 3], memory)."""
    c = self.config
    window = Window(past)
    x = Conv(c.widths[-1], c.dtype, name="conv_in")(z, window)
    for i in range(2):
      name = f"middle_{i}"
      x = ResidualBlock(c.widths[-1], c.groups, c.dtype, name=name)(
          x, window, z)
    for level, width in enumerate(c.widths[::-1]):
      for i in range(c.blocks + 1):
        name = f"level_{level}_res_{i}"
        x = ResidualBlock(width, c.groups, c.dtype, name=name)(x, window, z)
      if level < len(c.widths) - 1:
        name = f"level_{level}_up"
        x = Upsample(level < c.time_levels, c.dtype, name=name)(x)
    x = nn.silu(LatentNorm(c.groups, c.dtype, name="norm_out")(x, z))
    x = Conv(3, c.dtype, name="conv_out")(x, window)
    return x, window.seen


def latent_shape(
    config: Config, frames: int, height: int, width: int
) -> tuple[int, int, int, int]:
  """Shape (t, h', w', z) of the latent of a clip, see `layers.latent.grid`."""
  grid = latent.grid(frames, height, width, time=config.time_factor,
                     space=config.space_factor)
  return *grid, config.latent_channels


def init(config: Config, rng: types.Array) -> interfaces.Params:
  """Fresh parameters {"encoder": ..., "decoder": ...}."""
  keys = jax.random.split(rng)
  size = config.space_factor
  frame = jnp.zeros((1, 1, size, size, 3), config.dtype)
  z = jnp.zeros((1, 1, 1, 1, config.latent_channels), config.dtype)
  return {
      "encoder": Encoder(config).init(keys[0], frame, None)["params"],
      "decoder": Decoder(config).init(keys[1], z, None)["params"],
  }


def encode(
    config: Config, params: interfaces.Params, video: types.Array
) -> types.Array:
  """Video [b, f, h, w, 3] in [-1, 1] -> moments [b, t, h', w', 2 z].

  Raises:
    ConfigError: the clip does not divide into latent frames and pixels.
  """
  latent_shape(config, *video.shape[1:4])
  return _by_chunks(
      lambda chunk, past: Encoder(config).apply(
          {"params": params["encoder"]}, chunk, past), video, ENCODE_FRAMES)


def decode(
    config: Config, params: interfaces.Params, z: types.Array
) -> types.Array:
  """Latent [b, t, h', w', z], not scaled -> video [b, f, h, w, 3].

  An even number of latent frames gives `time_factor` frames for each of them.
  """
  return _by_chunks(
      lambda chunk, past: Decoder(config).apply(
          {"params": params["decoder"]}, chunk, past), z, DECODE_LATENTS)


def _by_chunks(
    run: Callable[[types.Array, Memory | None], tuple[types.Array, Memory]],
    x: types.Array, size: int
) -> types.Array:
  """Runs over [b, f, ...] in chunks; the first has what `size` leaves over."""
  first = min(x.shape[1], size + x.shape[1] % size)
  y, memory = run(x[:, :first], None)
  if first == x.shape[1]:
    return y
  rest = rearrange(x[:, first:], "b (n f) h w c -> n b f h w c", f=size)
  rest = jax.lax.scan(lambda past, chunk: run(chunk, past)[::-1],
                      memory, rest)[1]
  rest = rearrange(rest, "n b f h w c -> b (n f) h w c")
  return jnp.concatenate([y, rest], axis=1)
