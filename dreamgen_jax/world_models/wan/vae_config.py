"""Sizes of Wan's video autoencoders."""

import dataclasses

from dreamgen_jax import errors, interfaces


@dataclasses.dataclass(frozen=True)
class VaeConfig:
  """Sizes of an autoencoder; the defaults are the Wan 2.1 checkpoint's.

  Attributes:
    base_dim: channels of the encoder at full resolution.
    z_dim: channels of a latent.
    dim_mult: channels of each level, in units of base_dim; every level but
      the last halves the picture.
    num_res_blocks: residual blocks of an encoder level (decoder: one more).
    temporal_downsample: for each halving of space, whether it halves time.
    latents_mean, latents_std: z_dim values each, of the normalised latent.
    dtype: of the computation.
    decoder_base_dim: as base_dim, of the decoder; None is the encoder's.
    patch: pixels (along each side) that the first layer sees as channels.
    residual: Wan 2.2's levels, each with a shortcut around it.
    chunk: latent frames that go through at a time, so that memory does not
      grow with the clip; None is all. The result is the same.
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
  decoder_base_dim: int | None = None
  patch: int = 1
  residual: bool = False
  chunk: int | None = dataclasses.field(
      default=None, metadata=interfaces.LATER)

  def __post_init__(self):
    if self.chunk is not None and self.chunk < 1:
      raise errors.ConfigError(
          f"chunk is {self.chunk}; it is a number of latent frames, or None.")

  @property
  def space_factor(self) -> int:
    """Pixels per latent pixel, along height and along width."""
    return self.patch * 2 ** (len(self.dim_mult) - 1)

  @property
  def time_factor(self) -> int:
    """Video frames per latent frame after the first."""
    return 2 ** sum(self.temporal_downsample)

  @property
  def widths(self) -> tuple[int, ...]:
    """Channels of each level of the encoder, finest first."""
    return tuple(self.base_dim * mult for mult in self.dim_mult)

  @property
  def decoder_widths(self) -> tuple[int, ...]:
    """Channels of each level of the decoder, finest first."""
    base = self.decoder_base_dim or self.base_dim
    return tuple(base * mult for mult in self.dim_mult)


PRESETS = {
    "released": VaeConfig(chunk=1),
    "released_2_2": VaeConfig(
        chunk=1,
        base_dim=160,
        decoder_base_dim=256,
        z_dim=48,
        patch=2,
        residual=True,
        latents_mean=(
            -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838,
            0.1557, -0.1382, 0.0542, 0.2813, 0.0891, 0.1570, -0.0098, 0.0375,
            -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108,
            -0.2158, 0.2502, -0.2055, -0.0322, 0.1109, 0.1567, -0.0729,
            0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723,
            -0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433,
            -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
        ),
        latents_std=(
            0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013,
            0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978,
            0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
            0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093,
            0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887,
            0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
        ),
    ),
    # Halves space twice and time once: at 64 pixels and 5 Hz, where a hand
    # moves its own width in a frame, more would be lost.
    "nano": VaeConfig(
        base_dim=8,
        z_dim=8,
        dim_mult=(1, 4, 8),
        num_res_blocks=1,
        temporal_downsample=(False, True),
        latents_mean=(0.0,) * 8,
        latents_std=(1.0,) * 8,
    ),
    # As nano, with 2.2's levels: two pixels a side are seen as channels.
    "nano_2_2": VaeConfig(
        base_dim=16,
        z_dim=8,
        dim_mult=(2, 2),
        num_res_blocks=1,
        temporal_downsample=(True,),
        latents_mean=(0.0,) * 8,
        latents_std=(1.0,) * 8,
        patch=2,
        residual=True,
    ),
}
