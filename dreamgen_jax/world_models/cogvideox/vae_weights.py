"""Names of the autoencoder's tensors: diffusers' files."""

from dreamgen_jax import weights

_pointwise = weights.patch(1, 1, 1)


def _conv(name: str, path: str) -> list[weights.Rule]:
  return weights.conv(f"{name}.conv", f"{path}/conv")


def _norms(name: str, path: str) -> list[weights.Rule]:
  """A plain group norm, or one that looks at the latent."""
  return [
      *weights.norm(name, path),
      *weights.norm(f"{name}.norm_layer", f"{path}/norm"),
      *weights.conv(f"{name}.conv_y.conv", f"{path}/scale", _pointwise),
      *weights.conv(f"{name}.conv_b.conv", f"{path}/shift", _pointwise),
  ]


def _residual(name: str, path: str) -> list[weights.Rule]:
  return [
      *_norms(f"{name}.norm{{p:1|2}}", f"{path}/norm{{p}}"),
      *_conv(f"{name}.conv{{p:1|2}}", f"{path}/conv{{p}}"),
      *weights.conv(f"{name}.conv_shortcut", f"{path}/shortcut", _pointwise),
  ]


def _side(side: str, direction: str) -> list[weights.Rule]:
  """The encoder ("down") or the decoder ("up")."""
  level = f"{side}.{direction}_blocks.{{i}}"
  return [
      *_conv(f"{side}.conv_{{p:in|out}}", f"{side}/conv_{{p}}"),
      *_residual(f"{level}.resnets.{{j}}", f"{side}/level_{{i}}_res_{{j}}"),
      *weights.conv(f"{level}.{direction}samplers.0.conv",
                    f"{side}/level_{{i}}_{direction}/conv", weights.conv2d),
      *_residual(f"{side}.mid_block.resnets.{{j}}", f"{side}/middle_{{j}}"),
      *_norms(f"{side}.norm_out", f"{side}/norm_out"),
  ]


NAMES = {"diffusers": [*_side("encoder", "down"), *_side("decoder", "up")]}
