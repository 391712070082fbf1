"""The autoencoder of Wan 2.2 against diffusers' own."""

import jax
import numpy as np
import pytest
from einops import rearrange

from dreamgen_jax import weights
from dreamgen_jax.world_models.wan import vae, vae_weights
from tests import golden_cases
from tests.parity import wan_vae_test

CASES = golden_cases.cases("wan22_vae")
DIFFUSERS = vae_weights.names("diffusers")


def _last(x):
  return rearrange(x, "b c f h w -> b f h w c")


@pytest.fixture(params=CASES)
def case(golden, request):
  kwargs, files = golden(request.param)
  config = wan_vae_test.config_of(kwargs["kwargs"])
  target = jax.eval_shape(lambda key: vae.init(config, key), jax.random.key(0))
  return config, weights.load(files["weights"], DIFFUSERS, target), files


def test_encode(case):
  config, params, files = case
  inputs, outputs = files["inputs"], files["outputs"]
  encode = jax.jit(vae.encode, static_argnums=0)
  moments = encode(config, params, _last(inputs["x"]))
  np.testing.assert_allclose(moments, _last(outputs["moments"]), atol=2e-5)
  mean = vae.mode(moments)
  np.testing.assert_allclose(mean, _last(outputs["mode"]), atol=2e-5)
  latent = vae.normalise(config, mean)
  np.testing.assert_allclose(
      latent, _last(outputs["mode_normalized"]), atol=2e-5)
  image = vae.mode(encode(config, params, _last(inputs["img"])))
  np.testing.assert_allclose(image, _last(outputs["img_mode"]), atol=2e-5)


def test_decode(case):
  config, params, files = case
  z, outputs = _last(files["inputs"]["z"]), files["outputs"]
  decode = jax.jit(vae.decode, static_argnums=0)
  np.testing.assert_allclose(
      decode(config, params, z), _last(outputs["decode"]), atol=2e-5)
  np.testing.assert_allclose(
      decode(config, params, z[:, :1]), _last(outputs["decode_T1"]), atol=2e-5)


def test_export_gives_the_released_file(case):
  _, params, files = case
  exported = weights.export(params, DIFFUSERS)
  assert exported.keys() == files["weights"].keys()
  for name, tensor in files["weights"].items():
    np.testing.assert_array_equal(exported[name], tensor)


@pytest.mark.parametrize("case", CASES)
def test_config_file_is_the_released_one(golden, case):
  kwargs, _ = golden(case)
  facts = vae_weights.describe(wan_vae_test.config_of(kwargs["kwargs"]))
  assert facts.pop("_class_name") == kwargs["class"]
  assert facts == {name: kwargs["kwargs"][name] for name in facts}
  assert kwargs["kwargs"].keys() - facts.keys() == {"attn_scales", "dropout"}


def test_released_size():
  config = vae.PRESETS["released_2_2"]
  params = jax.eval_shape(
      lambda key: vae.init(config, key), jax.random.key(0))
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert count == 704_688_668
  assert vae.latent_shape(config, 121, 704, 1280) == (31, 44, 80, 48)
