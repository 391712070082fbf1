"""Wan's adapter files, in the three dialects that are shared."""

from dreamgen_jax import lora_files
from dreamgen_jax.world_models.wan import folder

FORMATS = lora_files.Formats(
    folder.FAMILY, ("diffusers", "comfyui", "musubi"))
