"""Training from nothing: normalisation, crops, and emptied prompts."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import pretraining
from dreamgen_jax.world_models import cogvideox, cosmos, hunyuan, wan


@pytest.mark.parametrize("family", [cogvideox, cosmos, hunyuan, wan])
def test_latents_come_out_with_deviation_one(family):
  random = np.random.default_rng(0)
  model = family.Model(family.PRESETS["nano"])
  channels = model.config.latent_shape[-1]
  z = random.normal(size=(4000, channels)) * random.uniform(
      0.5, 3, channels) + random.normal(size=channels)
  vae = family.RECIPE.normalised(
      model, z.mean(axis=0).tolist(), z.std(axis=0).tolist()).config.vae
  if hasattr(vae, "latents_mean"):
    z = (z - np.array(vae.latents_mean)) / np.array(vae.latents_std)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(axis=0), 1, rtol=1e-6)
  else:
    np.testing.assert_allclose((z * vae.scale).std(), 1, rtol=1e-6)


@dataclasses.dataclass(frozen=True)
class _Echo:
  """Gives back what it is told, as its loss."""

  config: types.SimpleNamespace

  def encode_text(self, params, tokens, frame):
    told = tokens["ids"].sum() + 10 * tokens["mask"].sum()
    return {"text": told + (0 if frame is None else 1000 * frame.sum())}

  def loss(self, params, rng, batch):
    return batch["text"] + 0.0, {}


@pytest.mark.parametrize(("dropout", "told"), [(0.0, 36 + 60), (1.0, 4 + 40)])
def test_prompts_are_emptied(dropout, told):
  empty = {"ids": np.array([[1, 0]]), "mask": np.array([[True, False]])}
  objective = pretraining.TextToVideo(
      _Echo(types.SimpleNamespace()), empty, dropout)
  batch = {"latent": np.zeros((4, 1)), "ids": np.array([[4, 5]] * 4),
           "mask": np.array([[True, True]] * 2 + [[True, False]] * 2)}
  loss = objective.loss({}, jax.random.key(0), batch)[0]
  assert loss == told
  batch["frame"] = np.ones((4, 1), np.uint8)
  assert objective.loss({}, jax.random.key(0), batch)[0] == told + 4000


def test_crops_are_cut_at_random_and_reconstructed():
  config = types.SimpleNamespace(vae=None)
  recipe = pretraining.Recipe(
      init=lambda vae, rng: {},
      encode=lambda vae, params, video: jnp.concatenate(
          [video, jnp.full_like(video, -60.0)], axis=-1),  # certain of itself
      decode=lambda vae, params, z: 2 * z,
      normalise=pretraining.per_channel)
  objective = pretraining.Autoencoder(
      _Echo(config), recipe, crop_size=2, crop_frames=3, kl_weight=0.0)
  video = np.zeros((2, 5, 4, 4, 3), np.uint8)
  video[:, 4] = 255  # the last frame is in one of three crops
  keys = jax.random.split(jax.random.key(0, impl="rbg"), 12)
  losses = jax.jit(jax.vmap(
      lambda key: objective.loss({}, key, {"video": video})[0]))(keys)
  # Whatever is doubled is wrong by its own size, 1: L1 + 4 * squared.
  np.testing.assert_allclose(losses, 5.0, rtol=1e-5)
  crops = {float(objective._crop(key, video).mean()) for key in keys}
  assert 1 < len(crops) <= 3 and crops <= {0.0, 42.5, 85.0}
  again = objective.reconstruct({}, video)  # twice too far, but clamped
  np.testing.assert_array_equal(again, video)
