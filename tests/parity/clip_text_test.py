"""CLIP's text tower against transformers' own."""

import dataclasses

import jax
import numpy as np
import pytest

from dreamgen_jax import errors, weights
from dreamgen_jax.encoders import clip_text
from tests import golden_cases


def _shapes(c):
  return jax.eval_shape(clip_text.Tower(c).init, jax.random.key(0),
                        np.zeros((1, 4), np.int32))["params"]


@pytest.fixture(params=golden_cases.cases("CLIPTextModel"))
def case(golden, request):
  config, files = golden(request.param)
  sizes = config["kwargs"]
  c = clip_text.Config(
      vocabulary=sizes["vocab_size"], width=sizes["hidden_size"],
      depth=sizes["num_hidden_layers"], heads=sizes["num_attention_heads"],
      mlp_width=sizes["intermediate_size"], begin=sizes["bos_token_id"],
      end=sizes["eos_token_id"], length=sizes["max_position_embeddings"],
      activation=sizes["hidden_act"])
  return c, files, weights.load(files["weights"], clip_text.NAMES, _shapes(c))


def test_states(case):
  c, files, params = case
  tokens = files["inputs"]["input_ids"].astype(np.int32)
  states, pooled = jax.jit(clip_text.Tower(c).apply)({"params": params}, tokens)
  outputs = files["outputs"]
  np.testing.assert_allclose(
      states, outputs["last_hidden_state"], atol=2e-5, rtol=0)
  np.testing.assert_allclose(
      pooled, outputs["pooler_output"], atol=2e-5, rtol=0)


def test_names(case):
  c, files, params = case
  released = weights.export(params, clip_text.NAMES)
  assert released.keys() == files["weights"].keys()
  for name, tensor in files["weights"].items():
    np.testing.assert_array_equal(released[name], tensor)
  bare = {name.removeprefix("text_model."): tensor
          for name, tensor in released.items()}
  bare["embeddings.position_ids"] = np.arange(77)[None]
  again = weights.load(bare, clip_text.NAMES, _shapes(c))
  jax.tree.map(np.testing.assert_array_equal, again, params)


def test_released_size():
  shapes = _shapes(clip_text.PRESETS["vit_l_14"])
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  assert round(count / 1e9, 3) == 0.123


def test_unknown_activation(case):
  c, *_ = case
  with pytest.raises(errors.ConfigError, match="'relu'; it can be gelu"):
    _shapes(dataclasses.replace(c, activation="relu"))
