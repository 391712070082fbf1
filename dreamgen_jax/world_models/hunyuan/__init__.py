"""HunyuanVideo, image to video (arXiv 2412.03603)."""

from dreamgen_jax.world_models.hunyuan.folder import (
    convert,
    load,
    locate,
    save,
)
from dreamgen_jax.world_models.hunyuan.model import Config, Model
from dreamgen_jax.world_models.hunyuan.presets import PRESETS, RULES
from dreamgen_jax.world_models.hunyuan.pretrain import RECIPE

__all__ = ["PRESETS", "RECIPE", "RULES", "Config", "Model", "convert", "load",
           "locate", "save"]
