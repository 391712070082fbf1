"""CogVideoX's adapter files, which have diffusers' names."""

from dreamgen_jax import lora_files
from dreamgen_jax.world_models.cogvideox import folder

FORMATS = lora_files.Formats(folder.FAMILY)
