"""pi0 and pi0.5: a vision-language model with a flow-matching action expert."""

from dreamgen_jax.policies.pi0.model import Config, Model
from dreamgen_jax.policies.pi0.presets import ADAPTERS, PRESETS, RULES, TUNED
from dreamgen_jax.policies.pi0.weights import load, save
