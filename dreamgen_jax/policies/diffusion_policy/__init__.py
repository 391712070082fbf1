"""Diffusion Policy: a U-Net that denoises chunks of actions."""

from dreamgen_jax.policies.diffusion_policy.model import Config, Model
from dreamgen_jax.policies.diffusion_policy.presets import PRESETS, RULES
