"""LLaVA's states against transformers' own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from dreamgen_jax import weights
from dreamgen_jax.encoders import clip, llama, llava
from tests import golden_cases


def _config(kwargs):
  sees, reads = kwargs["vision"], kwargs["text"]
  return llava.Config(
      vision=clip.Config(
          width=sees["hidden_size"], depth=sees["num_hidden_layers"],
          heads=sees["num_attention_heads"],
          mlp_width=sees["intermediate_size"], patch=sees["patch_size"],
          image_size=sees["image_size"], activation="quick_gelu"),
      language=llama.Config(
          vocabulary=reads["vocab_size"], width=reads["hidden_size"],
          heads=reads["num_attention_heads"],
          kv_heads=reads["num_key_value_heads"], head_dim=reads["head_dim"],
          ffn=reads["intermediate_size"], layers=reads["num_hidden_layers"],
          theta=reads["rope_theta"], epsilon=reads["rms_norm_eps"]),
      image_token=kwargs["image_token"])


def _names(c):
  return llava.names(c.vision.patch)


def _shapes(c):
  tokens = jnp.zeros((1, c.image_tokens + 1), jnp.int32)
  size = c.vision.image_size
  return jax.eval_shape(
      llava.Reader(c).init, jax.random.key(0), tokens, tokens == 0,
      jnp.zeros((1, size, size, 3)))["params"]


@pytest.fixture(params=golden_cases.cases("LlavaForConditionalGeneration"))
def case(golden, request):
  config, files = golden(request.param)
  c = _config(config["kwargs"])
  return c, files, weights.load(files["weights"], _names(c), _shapes(c))


def test_states(case):
  c, files, params = case
  inputs, outputs = files["inputs"], files["outputs"]
  mask = inputs["attention_mask"].astype(bool)
  states, last = jax.jit(llava.Reader(c).apply)(
      {"params": params}, inputs["input_ids"].astype(np.int32), mask,
      rearrange(inputs["pixel_values"], "b c h w -> b h w c"))
  np.testing.assert_allclose(
      states[mask], outputs["third_last"][mask], atol=2e-5, rtol=0)
  np.testing.assert_allclose(
      last[mask], outputs["last"][mask], atol=2e-5, rtol=0)


def test_export_gives_the_file_back_without_the_head(case):
  c, files, params = case
  released = weights.export(params, _names(c))
  assert files["weights"].keys() - released.keys() == {
      "language_model.lm_head.weight"}
  for name, tensor in released.items():
    np.testing.assert_array_equal(tensor, files["weights"][name])


@pytest.mark.parametrize("tower", [
    "model.vision_tower.vision_model.", "model.vision_tower."])
def test_renamed_files(case, tower):
  c, files, params = case
  moved = {
      name.replace("language_model.model.", "model.language_model.")
      .replace("language_model.lm_head", "lm_head")
      .replace("vision_tower.vision_model.", tower)
      .replace("multi_modal", "model.multi_modal"): tensor
      for name, tensor in files["weights"].items()}
  assert not moved.keys() & files["weights"].keys()
  moved[f"{tower}embeddings.position_ids"] = np.arange(5)[None]
  again = weights.load(moved, _names(c), _shapes(c))
  jax.tree.map(np.testing.assert_array_equal, again, params)


def test_released_size():
  c = llava.PRESETS["llava_llama3_8b"]
  assert c.image_tokens == 576
  count = sum(leaf.size for leaf in jax.tree.leaves(_shapes(c)))
  head = c.language.vocabulary * c.language.width  # released, but not read
  assert round((count + head) / 1e9, 3) == 8.355


def test_prepare_cuts_the_middle_out():
  # Twice as wide as high, bright left of the middle: a quarter of the width
  # goes on each side, and the border of the light stays in the middle.
  images = np.full((1, 8, 16, 3), -1.0, np.float32)
  images[:, :, :8] = 1.0
  found = np.asarray(clip.prepare(images, 8, crop=True)) * (
      0.26862954, 0.26130258, 0.27577711) + (0.48145466, 0.4578275, 0.40821073)
  np.testing.assert_allclose(found[0, :, :4], 1.0, atol=1e-6)
  np.testing.assert_allclose(found[0, :, 4:], 0.0, atol=1e-6)
  tall = clip.prepare(images.transpose(0, 2, 1, 3), 4, crop=True)
  assert tall.shape == (1, 4, 4, 3)
