"""CogVideoX 1.0 and 1.5, image to video (arXiv 2408.06072)."""

from dreamgen_jax.world_models.cogvideox.folder import (
    convert,
    load,
    locate,
    save,
)
from dreamgen_jax.world_models.cogvideox.model import Config, Model
from dreamgen_jax.world_models.cogvideox.presets import PRESETS, RULES
from dreamgen_jax.world_models.cogvideox.pretrain import RECIPE

__all__ = ["PRESETS", "RECIPE", "RULES", "Config", "Model", "convert", "load",
           "locate", "save"]
