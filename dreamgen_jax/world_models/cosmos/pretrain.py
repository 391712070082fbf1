"""How Cosmos's nano model is trained from nothing."""

from dreamgen_jax import pretraining
from dreamgen_jax.world_models.wan import vae

RECIPE = pretraining.Recipe(
    vae.init, vae.encode, vae.reconstruct, pretraining.per_channel)
