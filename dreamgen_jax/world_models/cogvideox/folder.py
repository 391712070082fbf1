"""CogVideoX's checkpoints, which are Diffusers folders."""

import pathlib

from dreamgen_jax import folder
from dreamgen_jax.encoders import tokenizer_files
from dreamgen_jax.world_models.cogvideox import model, presets, weights


def parts(config: model.Config) -> dict[str, folder.Part]:
  """What the released files call the parts of this config."""
  return folder.parts(presets.describe(config), weights.parts(config))


FAMILY = folder.Family(
    "CogVideoX", pathlib.Path(__file__).parent, model.Model, parts,
    tokenizer_files.load)
load, locate, save, convert = (
    FAMILY.load, FAMILY.locate, FAMILY.save, FAMILY.convert)
