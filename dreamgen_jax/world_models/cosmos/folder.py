"""Cosmos-Predict2's checkpoints: Diffusers folders, and NVIDIA's .pt files.

The text encoder (T5-11B) has only its makers' names, in both dialects.
"""

import pathlib

from dreamgen_jax import folder
from dreamgen_jax.encoders import t5, tokenizer_files
from dreamgen_jax.world_models.cosmos import model, presets, weights
from dreamgen_jax.world_models.wan import vae_weights

_PICTURES = {432: "480p", 704: "720p"}


def parts(config: model.Config) -> dict[str, folder.Part]:
  """What the released files call the parts of this config."""
  picture = _PICTURES.get(config.height, "*")
  return folder.parts(
      presets.describe(config), weights.parts(config),
      {"transformer": weights.NAMES["original"], "text": t5.NAMES,
       "vae": vae_weights.names("original", config.vae)},
      {"transformer": (f"model-{picture}-{config.video_hz:.0f}fps.pt",),
       "vae": ("tokenizer/tokenizer.pth",)})


FAMILY = folder.Family(
    "Cosmos", pathlib.Path(__file__).parent, model.Model, parts,
    tokenizer_files.load)
load, locate, save, convert = (
    FAMILY.load, FAMILY.locate, FAMILY.save, FAMILY.convert)
