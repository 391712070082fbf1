"""Names of the autoencoder's tensors: diffusers' files.

Tencent's own have the same names, or these behind "vae.".
"""

import dataclasses

from dreamgen_jax import weights

_POINTWISE = weights.patch(1, 1, 1)  # a convolution with a kernel of 1


def _conv(name: str, path: str) -> list[weights.Rule]:
  return weights.conv(f"{name}.conv", f"{path}/conv")


def _residual(name: str, path: str) -> list[weights.Rule]:
  return [
      *weights.norm(f"{name}.norm{{n}}", f"{path}/norm{{n}}"),
      *_conv(f"{name}.conv{{n:1|2}}", f"{path}/conv{{n}}"),
      *weights.conv(f"{name}.conv_shortcut.conv", f"{path}/shortcut",
                    _POINTWISE),
  ]


def _ends(side: str) -> list[weights.Rule]:
  """Both ends and the middle, alike in the encoder and the decoder."""
  attention, path = f"{side}.mid_block.attentions.0", f"{side}/middle/attention"
  return [
      *_conv(f"{side}.conv_in", f"{side}/conv_in"),
      *_residual(f"{side}.mid_block.resnets.{{j}}", f"{side}/middle/res_{{j}}"),
      *weights.norm(f"{attention}.group_norm", f"{path}/norm"),
      *weights.dense(f"{attention}.to_{{p:q|k|v}}", f"{path}/{{p}}"),
      *weights.dense(f"{attention}.to_out.0", f"{path}/o"),
      *weights.norm(f"{side}.conv_norm_out", f"{side}/norm_out"),
      *_conv(f"{side}.conv_out", f"{side}/conv_out"),
  ]


_RULES = [
    *_ends("encoder"),
    *_residual("encoder.down_blocks.{i}.resnets.{j}",
               "encoder/level_{i}_res_{j}"),
    *_conv("encoder.down_blocks.{i}.downsamplers.0.conv",
           "encoder/level_{i}_down"),
    *weights.conv("quant_conv", "encoder/quant", _POINTWISE),
    *weights.conv("post_quant_conv", "decoder/post_quant", _POINTWISE),
    *_ends("decoder"),
    *_residual("decoder.up_blocks.{i}.resnets.{j}",
               "decoder/level_{i}_res_{j}"),
    *_conv("decoder.up_blocks.{i}.upsamplers.0.conv",
           "decoder/level_{i}_up"),
]

NAMES = {
    "diffusers": _RULES + [
        dataclasses.replace(rule, name=f"vae.{rule.name}", spare=True)
        for rule in _RULES],
}
