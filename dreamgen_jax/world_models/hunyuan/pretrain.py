"""How HunyuanVideo's nano model is trained from nothing."""

from dreamgen_jax import pretraining
from dreamgen_jax.world_models.hunyuan import vae


def tokenizers(words):
  """Both readers of a prompt know the same words."""
  return {"llama": words, "clip": words}


RECIPE = pretraining.Recipe(
    vae.init, vae.encode, vae.reconstruct, pretraining.one_scale, tokenizers)
