"""Names of the released Diffusion Policy checkpoints.

`NAMES["diffusion_policy"]` covers the `ema_model` (or `model`) state dict of a
hybrid image policy of real-stanford/diffusion_policy, with either network,
saved as safetensors.
"""

from dreamgen_jax import weights

_INT = r"\d+"


def unet(name: str, path: str) -> list[weights.Rule]:
  """Rules of a ConditionalUnet1D under these prefixes."""

  def residual(inner: str, ours: str) -> list[weights.Rule]:
    inner, ours = f"{name}{inner}", f"{path}{ours}"
    block = f"{inner}.blocks.{{k}}.block"
    return [
        *weights.conv(f"{block}.0", f"{ours}/block_{{k}}/conv",
                      weights.conv1d),
        *weights.norm(f"{block}.1", f"{ours}/block_{{k}}/norm"),
        *weights.dense(f"{inner}.cond_encoder.1", f"{ours}/film"),
        *weights.conv(f"{inner}.residual_conv", f"{ours}/skip",
                      weights.conv1d),
    ]

  i, j = f"{{i:{_INT}}}", f"{{j:{_INT}}}"
  return [
      *weights.dense(f"{name}diffusion_step_encoder.1", f"{path}step_in"),
      *weights.dense(f"{name}diffusion_step_encoder.3", f"{path}step_out"),
      *residual(f"local_cond_encoder.{j}", f"local_{j}"),
      *residual(f"down_modules.{i}.{j}", f"down_{i}_{j}"),
      *residual(f"mid_modules.{j}", f"middle_{j}"),
      *residual(f"up_modules.{i}.{j}", f"up_{i}_{j}"),
      *weights.conv(f"{name}down_modules.{i}.2.conv", f"{path}down_{i}",
                    weights.conv1d),
      # A transposed convolution is (in, out, t); ours is (t, out, in).
      *weights.conv(f"{name}up_modules.{i}.2.conv", f"{path}up_{i}",
                    weights.conv1d),
      *weights.conv(f"{name}final_conv.0.block.0", f"{path}final_block/conv",
                    weights.conv1d),
      *weights.norm(f"{name}final_conv.0.block.1", f"{path}final_block/norm"),
      *weights.conv(f"{name}final_conv.1", f"{path}final", weights.conv1d),
  ]


def transformer(name: str, path: str, plain: bool = False
                ) -> list[weights.Rule | weights.Ignore]:
  """Rules of a TransformerForDiffusion under these prefixes.

  A `plain` one has no memory, and all its blocks are the encoder's.
  """
  i = f"{{i:{_INT}}}"

  def block(inner: str, ours: str,
            parts: dict[str, str]) -> list[weights.Rule]:
    rules = []
    for theirs, part in parts.items():
      theirs = f"{inner}.{theirs}"
      for piece, p in enumerate("qkv"):
        rules += [
            weights.Rule(f"{theirs}.in_proj_weight",
                         f"{ours}/{part}/{p}/kernel", weights.linear,
                         pieces=(piece,), of=3),
            weights.Rule(f"{theirs}.in_proj_bias", f"{ours}/{part}/{p}/bias",
                         pieces=(piece,), of=3)]
      rules += weights.dense(f"{theirs}.out_proj", f"{ours}/{part}/o")
    norms = [*parts.values(), "mlp"]
    for number, part in enumerate(norms, 1):
      rules += weights.norm(f"{inner}.norm{number}", f"{ours}/{part}_norm")
    return (rules + weights.dense(f"{inner}.linear1", f"{ours}/in")
            + weights.dense(f"{inner}.linear2", f"{ours}/out"))

  own, both = {"self_attn": "self"}, {"self_attn": "self",
                                      "multihead_attn": "cross"}
  blocks = block(f"{name}encoder.layers.{i}", f"{path}block_{i}", own) if (
      plain) else [
          *block(f"{name}encoder.layers.{i}", f"{path}memory_{i}", own),
          *block(f"{name}decoder.layers.{i}", f"{path}block_{i}", both)]
  return [
      weights.Rule(f"{name}pos_emb", f"{path}positions", weights.squeeze()),
      weights.Rule(f"{name}cond_pos_emb", f"{path}memory_positions",
                   weights.squeeze()),
      *weights.dense(f"{name}input_emb", f"{path}action"),
      *weights.dense(f"{name}cond_obs_emb", f"{path}observation"),
      *weights.dense(f"{name}encoder.0", f"{path}memory_in"),
      *weights.dense(f"{name}encoder.2", f"{path}memory_out"),
      *blocks,
      *weights.norm(f"{name}ln_f", f"{path}norm"),
      *weights.dense(f"{name}head", f"{path}out"),
      weights.Ignore(rf"{name}(mask|memory_mask|_dummy_variable)",
                     "causality, which follows from the shapes"),
  ]


def resnet(name: str, path: str) -> list[weights.Rule]:
  """Rules of a torchvision ResNet whose children are numbered: 0 is the first
  convolution, 1 its norm, 4 to 7 the stages.
  """
  rules = [
      *weights.conv(f"{name}0", f"{path}stem", weights.conv2d, bias=False),
      *weights.norm(f"{name}1", f"{path}stem_norm"),
  ]
  for stage in range(4):
    theirs = f"{name}{4 + stage}.{{j:{_INT}}}"
    ours = f"{path}stage_{stage}_{{j:{_INT}}}"
    for k in range(2):
      rules += weights.conv(f"{theirs}.conv{k + 1}", f"{ours}/conv_{k}",
                            weights.conv2d, bias=False)
      rules += weights.norm(f"{theirs}.bn{k + 1}", f"{ours}/norm_{k}")
    rules += weights.conv(f"{theirs}.downsample.0", f"{ours}/skip",
                          weights.conv2d, bias=False)
    rules += weights.norm(f"{theirs}.downsample.1", f"{ours}/skip_norm")
  return rules


def softmax(name: str, path: str) -> list[weights.Rule]:
  """Rules of a spatial softmax with its 1x1 convolution."""
  return weights.conv(f"{name}nets", f"{path}maps", weights.conv2d)


_CAMERA = "obs_encoder.obs_nets.{camera}."
_OURS = "encoder/camera_{camera}/"

NAMES: dict[str, weights.Table] = {
    "diffusion_policy": [
        *unet("model.", "unet/"),
        *transformer("model.", "transformer/"),
        *resnet(f"{_CAMERA}backbone.nets.", _OURS),
        *softmax(f"{_CAMERA}pool.", f"{_OURS}softmax/"),
        *weights.dense(f"{_CAMERA}nets.3", f"{_OURS}project"),
        weights.Ignore(r"obs_encoder\.obs_nets\.[^.]+\.nets\.[01]\..*",
                       "backbone and pool once more, as a Sequential"),
        weights.Ignore(r"obs_encoder\.obs_nets\.[^.]+\.pool\."
                       r"(pos_x|pos_y|temperature)",
                       "constants of the pixel grid; temperature 1"),
        weights.Ignore(r"normalizer\..*",
                       "statistics travel with the data, not the network"),
        weights.Ignore(r"(mask_generator\.)?_dummy_variable", "no content"),
    ],
}
