"""HunyuanVideo's checkpoints: Diffusers folders, and Tencent's .pt files."""

import pathlib

from dreamgen_jax import folder
from dreamgen_jax.encoders import tokenizer_files
from dreamgen_jax.world_models.hunyuan import model, presets, weights


def parts(config: model.Config) -> dict[str, folder.Part]:
  """What the released files call the parts of this config."""
  names = weights.parts(config)
  encoders = {part: names[part] for part in ("text", "text_2")}
  return folder.parts(
      presets.describe(config), names,
      encoders | weights.original_parts(config), weights.ORIGINALS)


FAMILY = folder.Family(
    "HunyuanVideo", pathlib.Path(__file__).parent, model.Model, parts,
    tokenizer_files.load, {"llama": ("tokenizer", "text_encoder_i2v"),
                         "clip": ("tokenizer_2", "text_encoder_2")})
load, locate, save, convert = (
    FAMILY.load, FAMILY.locate, FAMILY.save, FAMILY.convert)
