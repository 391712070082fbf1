"""LLaMA's states against transformers' own."""

import jax
import numpy as np
import pytest

from dreamgen_jax import errors, weights
from dreamgen_jax.encoders import llama
from tests import golden_cases


def config_of(kwargs):
  return llama.Config(
      vocabulary=kwargs["vocab_size"], width=kwargs["hidden_size"],
      heads=kwargs["num_attention_heads"],
      kv_heads=kwargs["num_key_value_heads"], head_dim=kwargs["head_dim"],
      ffn=kwargs["intermediate_size"], layers=kwargs["num_hidden_layers"],
      theta=kwargs["rope_theta"], epsilon=kwargs["rms_norm_eps"])


def _shapes(config):
  tokens = np.zeros((1, 4), np.int32)
  return jax.eval_shape(llama.Decoder(config).init, jax.random.key(0), tokens,
                        tokens > 0)["params"]


@pytest.fixture(params=golden_cases.cases("LlamaModel"))
def case(golden, request):
  config, files = golden(request.param)
  c = config_of(config["kwargs"])
  return c, files, weights.load(files["weights"], llama.NAMES, _shapes(c))


def test_states(case):
  c, files, params = case
  tokens = files["inputs"]["input_ids"].astype(np.int32)
  mask = files["inputs"]["attention_mask"].astype(bool)
  assert not mask.all()
  states, last = jax.jit(llama.Decoder(c).apply)(
      {"params": params}, tokens, mask)
  outputs = files["outputs"]
  # Rows past a prompt's end mean nothing.
  np.testing.assert_allclose(
      states[mask], outputs["third_last"][mask], atol=2e-5, rtol=0)
  np.testing.assert_allclose(
      last[mask], outputs[f"hidden_states/{c.layers}"][mask], atol=2e-5, rtol=0)


def test_names(case):
  c, files, params = case
  released = weights.export(params, llama.NAMES)
  assert released.keys() == files["weights"].keys()
  for name, tensor in files["weights"].items():
    np.testing.assert_array_equal(released[name], tensor)
  whole = {f"model.{name}": tensor for name, tensor in released.items()}
  whole["lm_head.weight"] = released["embed_tokens.weight"]
  again = weights.load(whole, llama.NAMES, _shapes(c))
  jax.tree.map(np.testing.assert_array_equal, again, params)


def test_released_size():
  shapes = _shapes(llama.PRESETS["llava_llama3_8b"])
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  assert round(count / 1e9, 3) == 7.505


def test_heads_must_share_keys_evenly():
  with pytest.raises(errors.ConfigError, match=r"kv_heads \(3\)"):
    llama.Config(vocabulary=8, width=8, heads=4, kv_heads=3, head_dim=2, ffn=8,
                 layers=2)
