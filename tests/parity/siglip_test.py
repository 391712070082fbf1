"""The SigLIP vision tower against Hugging Face's."""

import math

import jax
import numpy as np
import pytest

from dreamgen_jax import weights
from dreamgen_jax.encoders import siglip


@pytest.fixture
def case(golden):
  config, files = golden("siglip")
  sizes = config["vision_config"]
  tower = siglip.Tower(siglip.Config(
      width=sizes["hidden_size"], depth=sizes["num_hidden_layers"],
      heads=sizes["num_attention_heads"], mlp_width=sizes["intermediate_size"],
      patch=sizes["patch_size"], image_size=sizes["image_size"],
      pooling=True))
  tensors = files["siglip"]
  images = tensors["in/pixel_values"].transpose(0, 2, 3, 1)
  released = {name.removeprefix("w/"): tensor
              for name, tensor in tensors.items() if name.startswith("w/")}
  table = siglip.names(sizes["patch_size"]) + siglip.IGNORE
  target = _shapes(tower, images)
  return tower, images, tensors, released, table, target


def _shapes(tower, images):
  return jax.eval_shape(
      lambda: tower.init(jax.random.key(0), images)["params"])


def test_tokens_and_pooled_vector(case):
  tower, images, tensors, released, table, target = case
  params = weights.load(released, table, target)
  tokens, pooled = tower.apply({"params": params}, images)
  np.testing.assert_allclose(
      tokens, tensors["out/vision_last_hidden_state"], atol=2e-5)
  np.testing.assert_allclose(
      pooled, tensors["out/vision_pooler_output"], atol=2e-5)


def test_export_gives_the_released_file_back(case):
  *_, released, table, target = case
  exported = weights.export(weights.load(released, table, target), table)
  vision = {name: tensor for name, tensor in released.items()
            if name.startswith("vision_model.")}
  assert exported.keys() == vision.keys()
  for name, tensor in vision.items():
    np.testing.assert_array_equal(exported[name], tensor)


@pytest.fixture
def flexible(golden):
  config, files = golden("siglip2_naflex")
  sizes, tensors = config["vision_config"], files["siglip2_naflex"]
  side = math.isqrt(sizes["num_patches"])
  tower = siglip.NaFlex(siglip.Config(
      width=sizes["hidden_size"], depth=sizes["num_hidden_layers"],
      heads=sizes["num_attention_heads"], mlp_width=sizes["intermediate_size"],
      patch=sizes["patch_size"], image_size=side * sizes["patch_size"],
      pooling=True))
  inputs = (tensors["in/pixel_values"],
            tensors["in/spatial_shapes"].astype(np.int32))
  released = {name.removeprefix("w/"): tensor
              for name, tensor in tensors.items() if name.startswith("w/")}
  target = jax.eval_shape(tower.init, jax.random.key(0), *inputs)["params"]
  params = weights.load(released, siglip.names(None), target)
  return tower, inputs, tensors, released, params


def test_images_of_any_height_and_width(flexible):
  tower, inputs, tensors, _, params = flexible
  tokens, pooled = jax.jit(tower.apply)({"params": params}, *inputs)
  mask = tensors["in/pixel_attention_mask"] > 0
  assert not mask.all()
  np.testing.assert_allclose(
      tokens, tensors["out/last_hidden_state"], atol=2e-5)
  np.testing.assert_allclose(
      pooled, tensors["out/pooler_output"], atol=2e-5)
  noise = np.where(mask[..., None], inputs[0], 9.0)
  again, _ = jax.jit(tower.apply)({"params": params}, noise, inputs[1])
  np.testing.assert_allclose(again[mask], tokens[mask], atol=1e-6)


def test_flexible_export_gives_the_released_file_back(flexible):
  *_, released, params = flexible
  exported = weights.export(params, siglip.names(None))
  assert exported.keys() == released.keys()
  for name, tensor in released.items():
    np.testing.assert_array_equal(exported[name], tensor)


@pytest.mark.parametrize(
    "preset,count", [("siglip2-large-patch16-256", 315_956_224)])
def test_released_size(preset, count):
  c = siglip.PRESETS[preset]
  shapes = _shapes(siglip.Tower(c), np.zeros((1, c.image_size, c.image_size,
                                             3), np.float32))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count
