"""NVIDIA's GR00T N1: a vision-language model and a flow-matching head."""

from dreamgen_jax.policies.groot_n1.folder import load, save
from dreamgen_jax.policies.groot_n1.model import Config, Model
from dreamgen_jax.policies.groot_n1.presets import PRESETS, RULES, TUNED
