"""A vision-language-action model whose actions are tokens, as RT-2's are."""

from dreamgen_jax.policies.token_vla.model import (
    PRESETS,
    RULES,
    Config,
    Model,
)
