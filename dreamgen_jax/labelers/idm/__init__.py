"""GR00T-Dreams' inverse dynamics model: two frames to a chunk of actions."""

from dreamgen_jax.labelers.idm.model import (
    PRESETS,
    RULES,
    Config,
    Model,
)
from dreamgen_jax.labelers.idm.weights import load
