"""Names of the autoencoders' tensors: diffusers' files and Wan's own."""

from typing import Any

from dreamgen_jax import weights
from dreamgen_jax.world_models.wan import vae_config

DIALECTS = ("diffusers", "original")

# (diffusers, Wan's own, ours)
_BLOCK_NORMS = [("norm1", "residual.0", "norm1"),
                ("norm2", "residual.3", "norm2")]
_BLOCK_CONVS = [("conv1", "residual.2", "conv1"),
                ("conv2", "residual.6", "conv2")]
_ENDS = [("conv_in", "conv1", "conv_in"), ("conv_out", "head.2", "conv_out")]
_MIDDLE = [("mid_block.resnets.0", "middle.0", "middle/res_0"),
           ("mid_block.resnets.1", "middle.2", "middle/res_1")]
_ATTENTION = ("mid_block.attentions.0", "middle.1", "middle/attention")
_QUANT = [("quant_conv", "conv1", "encoder/quant"),
          ("post_quant_conv", "conv2", "decoder/post_quant")]

_gamma3 = weights.reshape((-1,), (-1, 1, 1, 1))  # over time, height, width
_gamma2 = weights.reshape((-1,), (-1, 1, 1))
_frame_conv = weights.Transform(
    "conv OIHW -> 1HWIO",
    lambda x: weights.conv2d.load(x)[None],
    lambda x: weights.conv2d.export(x[0]),
)


def _pointwise(rank: int) -> weights.Transform:
  """A convolution with a kernel of 1 to a linear kernel."""
  axes = tuple(range(2, 2 + rank))

  def load(x):
    return x.squeeze(axes).transpose(1, 0)

  def export(x):
    return x.transpose(1, 0).reshape(x.shape[::-1] + (1,) * rank)

  return weights.Transform("pointwise conv (out, in) -> (in, out)", load,
                           export)


_pointwise2, _pointwise3 = _pointwise(2), _pointwise(3)


def _residual(dialect: int, name: str, path: str) -> list[weights.Rule]:
  """A residual block."""
  rules = [
      weights.Rule(f"{name}.{row[dialect]}.gamma", f"{path}/{row[2]}/gamma",
                   _gamma3) for row in _BLOCK_NORMS]
  for row in _BLOCK_CONVS:
    rules += weights.conv(f"{name}.{row[dialect]}", f"{path}/{row[2]}")
  shortcut = ("conv_shortcut", "shortcut")[dialect]
  return rules + weights.conv(
      f"{name}.{shortcut}", f"{path}/shortcut", _pointwise3)


def _resample(name: str, path: str) -> list[weights.Rule]:
  """A halving or doubling, in both dialects."""
  return [
      *weights.conv(f"{name}.resample.1", f"{path}/conv", _frame_conv),
      *weights.conv(f"{name}.time_conv", f"{path}/time_conv"),
  ]


def _frame(dialect: int, side: str) -> list[weights.Rule]:
  """Both ends and the middle, alike in all encoders and decoders."""
  norm_out = ("norm_out", "head.0")[dialect]
  attention, path = f"{side}.{_ATTENTION[dialect]}", f"{side}/{_ATTENTION[2]}"
  rules = [
      weights.Rule(
          f"{side}.{norm_out}.gamma", f"{side}/norm_out/gamma", _gamma3),
      weights.Rule(f"{attention}.norm.gamma", f"{path}/norm/gamma", _gamma2),
      *weights.conv(f"{attention}.to_qkv", f"{path}/qkv", _pointwise2),
      *weights.conv(f"{attention}.proj", f"{path}/out", _pointwise2),
  ]
  for row in _ENDS:
    rules += weights.conv(f"{side}.{row[dialect]}", f"{side}/{row[2]}")
  for row in _MIDDLE:
    rules += _residual(dialect, f"{side}.{row[dialect]}", f"{side}/{row[2]}")
  return rules


def _diffusers_levels() -> list[weights.Rule]:
  down, up = "encoder.down_blocks.{i}", "decoder.up_blocks.{i}"
  return [
      *_residual(0, down, "encoder/block_{i}"),
      *_resample(down, "encoder/block_{i}"),
      *_residual(0, f"{up}.resnets.{{j}}", "decoder/level_{i}_res_{j}"),
      *_resample(f"{up}.upsamplers.0", "decoder/level_{i}_up"),
      # Wan 2.2
      *_residual(0, f"{down}.resnets.{{j}}", "encoder/level_{i}/res_{j}"),
      *_resample(f"{down}.downsampler", "encoder/level_{i}/down"),
      *_residual(0, f"{up}.resnets.{{j}}", "decoder/level_{i}/res_{j}"),
      *_resample(f"{up}.upsampler", "decoder/level_{i}/up"),
  ]


def _original_levels(levels: int, blocks: int) -> list[weights.Rule]:
  """Wan's own files number a level's blocks and its resampling alike."""
  down, up = "encoder.downsamples.{i}", "decoder.upsamples.{i}"
  rules = [
      *_residual(1, down, "encoder/block_{i}"),
      *_resample(down, "encoder/block_{i}"),
      # Wan 2.2
      *_residual(1, f"{down}.downsamples.{{j}}", "encoder/level_{i}/res_{j}"),
      *_resample(f"{down}.downsamples.{blocks}", "encoder/level_{i}/down"),
      *_residual(1, f"{up}.upsamples.{{j}}", "decoder/level_{i}/res_{j}"),
      *_resample(f"{up}.upsamples.{blocks + 1}", "decoder/level_{i}/up"),
  ]
  for level in range(levels):  # Wan 2.1 does so through the whole decoder.
    first = level * (blocks + 2)
    for block in range(blocks + 1):
      rules += _residual(1, f"decoder.upsamples.{first + block}",
                         f"decoder/level_{level}_res_{block}")
    rules += _resample(f"decoder.upsamples.{first + blocks + 1}",
                       f"decoder/level_{level}_up")
  return rules


def names(dialect: str,
          config: vae_config.VaeConfig = vae_config.PRESETS["released"]
          ) -> list[weights.Rule]:
  """The table of "diffusers" or of the "original" files.

  Wan 2.1 and 2.2 share a table; "original" depends on the number of levels
  and of blocks in each.
  """
  column = DIALECTS.index(dialect)
  rules = [*_frame(column, "encoder"), *_frame(column, "decoder")]
  for row in _QUANT:
    rules += weights.conv(row[column], row[2], _pointwise3)
  return rules + (_diffusers_levels() if column == 0 else _original_levels(
      len(config.dim_mult), config.num_res_blocks))


NAMES = {dialect: names(dialect) for dialect in DIALECTS}


def describe(config: vae_config.VaeConfig) -> dict[str, Any]:
  """The config.json of diffusers' AutoencoderKLWan."""
  c = config
  facts: dict[str, Any] = {
      "_class_name": "AutoencoderKLWan", "base_dim": c.base_dim,
      "z_dim": c.z_dim, "dim_mult": list(c.dim_mult),
      "num_res_blocks": c.num_res_blocks,
      "temperal_downsample": list(c.temporal_downsample),
      "latents_mean": list(c.latents_mean),
      "latents_std": list(c.latents_std)}
  if not c.residual:
    return facts
  return facts | {
      "decoder_base_dim": c.decoder_base_dim, "is_residual": True,
      "patch_size": c.patch, "in_channels": 3 * c.patch**2,
      "out_channels": 3 * c.patch**2, "scale_factor_spatial": c.space_factor,
      "scale_factor_temporal": c.time_factor}
