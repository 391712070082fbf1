"""Encoder and decoder of Wan's video autoencoders.

  encoder: pixels to channels (2.2), conv_in, levels (residual blocks, then
    halve space and, twice, time), middle (residual, attention within a frame,
    residual), head.
  decoder: the mirror image, one more residual block a level.
"""

from einops import rearrange
from flax import linen as nn

from dreamgen_jax import sharding, types
from dreamgen_jax.layers import conv
from dreamgen_jax.world_models.wan import vae_blocks, vae_residual
from dreamgen_jax.world_models.wan.vae_config import VaeConfig


class Encoder(nn.Module):
  """Video to the mean and log variance of its latent."""

  config: VaeConfig

  @nn.compact
  def __call__(self, video: types.Array,
               history: conv.History | None = None) -> types.Array:
    """[b, f, h, w, 3] in [-1, 1] -> moments [b, t, h', w', 2 z]."""
    c = self.config
    x = rearrange(video, "b f (h q) (w r) c -> b f h w (c r q)",
                  q=c.patch, r=c.patch)
    x = sharding.constrain(x, vae_blocks.VIDEO)
    x = conv.CausalConv3d(
        c.base_dim, dtype=c.dtype, name="conv_in")(x, history)
    down = _residual_down if c.residual else _plain_down
    x = down(c, x, history)  # b t h' w' c
    x = vae_blocks.Middle(c.widths[-1], c.dtype, name="middle")(x, history)
    x = nn.silu(vae_blocks.ChannelNorm(name="norm_out")(x))
    x = conv.CausalConv3d(
        2 * c.z_dim, dtype=c.dtype, name="conv_out")(x, history)
    return nn.Dense(2 * c.z_dim, dtype=c.dtype, name="quant")(x)


class Decoder(nn.Module):
  """Latent to video, not yet clamped."""

  config: VaeConfig

  @nn.compact
  def __call__(self, z: types.Array,
               history: conv.History | None = None) -> types.Array:
    """[b, t, h', w', z] -> [b, f, h, w, 3]."""
    c, width = self.config, self.config.decoder_widths[-1]
    x = sharding.constrain(z, vae_blocks.VIDEO)
    x = nn.Dense(c.z_dim, dtype=c.dtype, name="post_quant")(x)
    x = conv.CausalConv3d(width, dtype=c.dtype, name="conv_in")(x, history)
    x = vae_blocks.Middle(width, c.dtype, name="middle")(x, history)
    up = _residual_up if c.residual else _plain_up
    x = up(c, x, history)  # b f h w decoder_base_dim
    x = nn.silu(vae_blocks.ChannelNorm(name="norm_out")(x))
    x = conv.CausalConv3d(
        3 * c.patch**2, dtype=c.dtype, name="conv_out")(x, history)
    x = rearrange(x, "b f h w (c r q) -> b f (h q) (w r) c",
                  q=c.patch, r=c.patch)
    return sharding.constrain(x, vae_blocks.VIDEO)


def _plain_down(c, x, history):
  block = 0  # Counts residual blocks and halvings alike, as released.
  for level, width in enumerate(c.widths):
    for _ in range(c.num_res_blocks):
      x = vae_blocks.ResidualBlock(
          width, c.dtype, name=f"block_{block}")(x, history)
      block += 1
    if level < len(c.widths) - 1:
      x = vae_blocks.Downsample(
          c.temporal_downsample[level], c.dtype, name=f"block_{block}"
      )(x, history)
      block += 1
  return x


def _plain_up(c, x, history):
  double_time = c.temporal_downsample[::-1]
  for level, width in enumerate(c.decoder_widths[::-1]):
    for block in range(c.num_res_blocks + 1):
      x = vae_blocks.ResidualBlock(
          width, c.dtype, name=f"level_{level}_res_{block}")(x, history)
    if level < len(c.decoder_widths) - 1:
      x = vae_blocks.Upsample(
          width // 2, double_time[level], c.dtype, name=f"level_{level}_up"
      )(x, history)
  return x


def _residual_down(c, x, history):
  halve_time = (*c.temporal_downsample, False)
  for level, width in enumerate(c.widths):
    x = vae_residual.DownLevel(
        width, c.num_res_blocks, level < len(c.widths) - 1, halve_time[level],
        c.dtype, name=f"level_{level}")(x, history)
  return x


def _residual_up(c, x, history):
  double_time = (*c.temporal_downsample[::-1], False)
  for level, width in enumerate(c.decoder_widths[::-1]):
    x = vae_residual.UpLevel(
        width, c.num_res_blocks + 1, level < len(c.decoder_widths) - 1,
        double_time[level], c.dtype, name=f"level_{level}")(x, history)
  return x
