"""Diffusion Policy: a U-Net that denoises chunks of actions."""

from dreamgen_jax.policies.diffusion_policy.model import (
    PRESETS,
    RULES,
    Config,
    Model,
)
