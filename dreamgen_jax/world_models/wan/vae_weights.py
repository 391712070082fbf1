"""Names of the autoencoder's tensors: diffusers' files."""

from dreamgen_jax import weights

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


def _residual(name: str, path: str) -> list[weights.Rule]:
  rules = []
  for part in ("1", "2"):
    rules.append(weights.Rule(
        f"{name}.norm{part}.gamma", f"{path}/norm{part}/gamma", _gamma3))
    rules += weights.conv(f"{name}.conv{part}", f"{path}/conv{part}")
  return rules + weights.conv(
      f"{name}.conv_shortcut", f"{path}/shortcut", _pointwise3)


def _resample(name: str, path: str) -> list[weights.Rule]:
  return [
      *weights.conv(f"{name}.resample.1", f"{path}/conv", _frame_conv),
      *weights.conv(f"{name}.time_conv", f"{path}/time_conv"),
  ]


def _ends(side: str) -> list[weights.Rule]:
  """Both ends and the middle, alike in the encoder and the decoder."""
  attention, path = f"{side}.mid_block.attentions.0", f"{side}/middle/attention"
  return [
      *weights.conv(f"{side}.conv_in", f"{side}/conv_in"),
      *_residual(f"{side}.mid_block.resnets.{{j}}", f"{side}/middle/res_{{j}}"),
      weights.Rule(f"{attention}.norm.gamma", f"{path}/norm/gamma", _gamma2),
      *weights.conv(f"{attention}.to_qkv", f"{path}/qkv", _pointwise2),
      *weights.conv(f"{attention}.proj", f"{path}/out", _pointwise2),
      weights.Rule(
          f"{side}.norm_out.gamma", f"{side}/norm_out/gamma", _gamma3),
      *weights.conv(f"{side}.conv_out", f"{side}/conv_out"),
  ]


NAMES = {
    "diffusers": [
        *_ends("encoder"),
        *_residual("encoder.down_blocks.{i}", "encoder/block_{i}"),
        *_resample("encoder.down_blocks.{i}", "encoder/block_{i}"),
        *weights.conv("quant_conv", "encoder/quant", _pointwise3),
        *weights.conv("post_quant_conv", "decoder/post_quant", _pointwise3),
        *_ends("decoder"),
        *_residual("decoder.up_blocks.{i}.resnets.{j}",
                   "decoder/level_{i}_res_{j}"),
        *_resample("decoder.up_blocks.{i}.upsamplers.0",
                   "decoder/level_{i}_up"),
    ],
}
