"""Wan 2.1 image to video (arXiv 2503.20314)."""

from dreamgen_jax.world_models.wan.folder import load, locate, save
from dreamgen_jax.world_models.wan.model import Config, Model
from dreamgen_jax.world_models.wan.presets import PRESETS, RULES

__all__ = ["PRESETS", "RULES", "Config", "Model", "load", "locate",
           "save"]
