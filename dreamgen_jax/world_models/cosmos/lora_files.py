"""Cosmos-Predict2's adapter files: diffusers' names, NVIDIA's own, ComfyUI's.

NVIDIA's trainer saves adapters within the whole model, as one .pt file.
"""

from dreamgen_jax import lora_files
from dreamgen_jax.world_models.cosmos import folder

FORMATS = lora_files.Formats(
    folder.FAMILY, ("diffusers", "original", "comfyui"))
