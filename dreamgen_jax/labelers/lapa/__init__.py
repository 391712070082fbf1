"""LAPA's latent actions: what moves one frame into another, as a few codes."""

from dreamgen_jax.labelers.lapa.model import (
    PRESETS,
    RULES,
    Config,
    Model,
)
from dreamgen_jax.labelers.lapa.weights import load
