"""Cosmos-Predict2 Video2World, also as fine-tuned by GR00T-Dreams."""

from dreamgen_jax.world_models.cosmos.folder import (
    convert,
    load,
    locate,
    save,
)
from dreamgen_jax.world_models.cosmos.model import Config, Model
from dreamgen_jax.world_models.cosmos.presets import PRESETS, RULES
from dreamgen_jax.world_models.cosmos.pretrain import RECIPE

__all__ = ["PRESETS", "RECIPE", "RULES", "Config", "Model", "convert", "load",
           "locate", "save"]
