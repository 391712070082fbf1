"""The CLIP vision tower against Hugging Face's."""

import jax
import numpy as np
import pytest

from dreamgen_jax import weights
from dreamgen_jax.encoders import clip
from tests import golden_cases


@pytest.fixture(params=golden_cases.cases("CLIPVisionModel"))
def case(golden, request):
  config, files = golden(request.param)
  sizes = config["kwargs"]
  tower = clip.Tower(clip.Config(
      width=sizes["hidden_size"], depth=sizes["num_hidden_layers"],
      heads=sizes["num_attention_heads"], mlp_width=sizes["intermediate_size"],
      patch=sizes["patch_size"], image_size=sizes["image_size"],
      epsilon=sizes["layer_norm_eps"]))
  images = files["inputs"]["pixel_values"].transpose(0, 2, 3, 1)
  return tower, images, files["outputs"], files["weights"], _shapes(
      tower, images)


def _shapes(tower, images):
  return jax.eval_shape(
      lambda: tower.init(jax.random.key(0), images)["params"])


def test_states_before_the_last_block(case):
  tower, images, outputs, released, target = case
  params = weights.load(released, clip.names(tower.config.patch), target)
  tokens, pooled = tower.apply({"params": params}, images)
  np.testing.assert_allclose(tokens, outputs["penultimate"], atol=2e-5)

  last = outputs[f"hidden_states/{tower.config.depth}"][:, 0]  # b d
  last = (last - last.mean(-1, keepdims=True)) / np.sqrt(
      last.var(-1, keepdims=True) + 1e-5)
  last = last * released["vision_model.post_layernorm.weight"] + (
      released["vision_model.post_layernorm.bias"])
  np.testing.assert_allclose(pooled, last, atol=5e-5)


def test_export_gives_the_released_file_back(case):
  tower, *_, released, target = case
  table = clip.names(tower.config.patch)
  exported = weights.export(weights.load(released, table, target), table)
  assert exported.keys() == released.keys()
  for name, tensor in released.items():
    np.testing.assert_array_equal(exported[name], tensor)


def test_names_without_prefix_mean_the_same(case):
  tower, *_, released, target = case
  table = clip.names(tower.config.patch)
  bare = {name.removeprefix("vision_model."): tensor
          for name, tensor in released.items()}
  bare["embeddings.position_ids"] = np.arange(5)[None]
  jax.tree.map(
      np.testing.assert_array_equal, weights.load(bare, table, target),
      weights.load(released, table, target))


def test_released_size():
  c = clip.PRESETS["vit_h_14"]
  assert c.tokens == 257
  shapes = _shapes(clip.Tower(c), np.zeros(
      (1, c.image_size, c.image_size, 3), np.float32))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 630_766_080


def test_prepare_resizes_by_torchs_bicubic_and_normalises():
  # Halving reads midway between pixels, where the four weights are these.
  images = np.zeros((1, 8, 16, 3), np.float32)
  images[0, 2, 6] = 1.0
  found = np.asarray(clip.prepare(images, 8)) * (
      0.26862954, 0.26130258, 0.27577711) + (0.48145466, 0.4578275, 0.40821073)
  want = np.zeros((8, 8))
  want[2, [2, 3]] = -0.09375, 0.59375  # rows keep their size
  np.testing.assert_allclose(
      found[0], np.repeat(want[..., None] * 0.5 + 0.5, 3, -1), atol=1e-6)


def test_prepare_keeps_a_plain_image_plain():
  mean = 2 * np.float32((0.48145466, 0.4578275, 0.40821073)) - 1
  images = np.broadcast_to(mean, (1, 5, 9, 3))
  np.testing.assert_allclose(clip.prepare(images, 7), 0, atol=1e-6)
