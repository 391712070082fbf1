"""An inverse dynamics model that sees a whole clip at once, after VPT."""

from dreamgen_jax.labelers.vpt.model import (
    PRESETS,
    RULES,
    Config,
    Model,
)
