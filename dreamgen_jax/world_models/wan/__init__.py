"""Wan 2.1 and 2.2 (arXiv 2503.20314)."""

from dreamgen_jax.world_models.wan.folder import convert, load, locate, save
from dreamgen_jax.world_models.wan.model import Config, Model
from dreamgen_jax.world_models.wan.presets import PRESETS, RULES
from dreamgen_jax.world_models.wan.pretrain import RECIPE

__all__ = ["PRESETS", "RECIPE", "RULES", "Config", "Model", "convert", "load",
           "locate", "save"]
