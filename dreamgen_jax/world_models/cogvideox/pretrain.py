"""How CogVideoX's nano model is trained from nothing."""

from dreamgen_jax import pretraining
from dreamgen_jax.world_models.cogvideox import vae

RECIPE = pretraining.Recipe(
    vae.init, vae.encode, vae.decode, pretraining.one_scale)
