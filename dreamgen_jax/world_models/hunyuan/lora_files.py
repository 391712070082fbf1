"""HunyuanVideo's adapter files, which have diffusers' names."""

from dreamgen_jax import lora_files
from dreamgen_jax.world_models.hunyuan import folder

FORMATS = lora_files.Formats(folder.FAMILY)
