"""The Wan autoencoder against diffusers' own."""

import dataclasses

import jax
import numpy as np
import pytest
from einops import rearrange

from dreamgen_jax import errors, weights
from dreamgen_jax.world_models.wan import vae, vae_weights
from tests import golden_cases

DIFFUSERS = vae_weights.NAMES["diffusers"]
OURS = {"temperal_downsample": "temporal_downsample", "patch_size": "patch",
        "is_residual": "residual"}


def config_of(kwargs):
  fields = {field.name for field in dataclasses.fields(vae.VaeConfig)}
  renamed = {OURS.get(name, name): value for name, value in kwargs.items()}
  return vae.VaeConfig(**{
      name: tuple(value) if isinstance(value, list) else value
      for name, value in renamed.items()
      if name in fields
  })


def _last(x):
  return rearrange(x, "b c f h w -> b f h w c")


@pytest.fixture(params=golden_cases.cases("wan_vae"))
def case(golden, request):
  kwargs, files = golden(request.param)
  config = config_of(kwargs["kwargs"])
  target = jax.eval_shape(lambda key: vae.init(config, key), jax.random.key(0))
  params = weights.load(files["weights"], DIFFUSERS, target)
  return config, params, files


def test_encode(case):
  config, params, files = case
  inputs, outputs = files["inputs"], files["outputs"]
  encode = jax.jit(vae.encode, static_argnums=0)
  moments = encode(config, params, _last(inputs["x"]))
  np.testing.assert_allclose(moments, _last(outputs["moments"]), atol=1e-5)
  mean = vae.mode(moments)
  np.testing.assert_allclose(mean, _last(outputs["mode"]), atol=1e-5)
  latent = vae.normalise(config, mean)
  np.testing.assert_allclose(
      latent, _last(outputs["mode_normalized"]), atol=1e-5)
  np.testing.assert_allclose(vae.denormalise(config, latent), mean, atol=1e-5)
  image = vae.mode(encode(config, params, _last(inputs["img"])))
  np.testing.assert_allclose(image, _last(outputs["img_mode"]), atol=1e-5)


def test_decode(case):
  config, params, files = case
  z, outputs = _last(files["inputs"]["z"]), files["outputs"]
  decode = jax.jit(vae.decode, static_argnums=0)
  video = decode(config, params, z)
  np.testing.assert_allclose(video, _last(outputs["decode"]), atol=2e-5)
  np.testing.assert_allclose(
      decode(config, params, z[:, :1]), _last(outputs["decode_T1"]), atol=2e-5)


def test_export_gives_the_released_file(case):
  _, params, files = case
  exported = weights.export(params, DIFFUSERS)
  assert exported.keys() == files["weights"].keys()
  for name, tensor in files["weights"].items():
    np.testing.assert_array_equal(exported[name], tensor)


def test_released_size():
  params = jax.eval_shape(
      lambda key: vae.init(vae.PRESETS["released"], key), jax.random.key(0))
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert count == 126_892_531


def test_a_clip_that_does_not_divide():
  with pytest.raises(errors.ConfigError, match="1 plus a multiple of 4"):
    vae.latent_shape(vae.PRESETS["released"], 16, 64, 64)
