"""The T5 encoders against transformers' own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import weights
from dreamgen_jax.encoders import t5
from tests import golden_cases

UMT5 = golden_cases.cases("UMT5EncoderModel")


def _config(config):
  kwargs = config["kwargs"]
  return t5.Config(
      vocabulary=kwargs["vocab_size"], width=kwargs["d_model"],
      heads=kwargs["num_heads"], head_dim=kwargs["d_kv"], ffn=kwargs["d_ff"],
      layers=kwargs["num_layers"], gated=kwargs["feed_forward_proj"] != "relu",
      bias_everywhere=config["class"] == "UMT5EncoderModel",
      buckets=kwargs["relative_attention_num_buckets"],
      max_distance=kwargs["relative_attention_max_distance"],
      epsilon=kwargs["layer_norm_epsilon"])


def _target(config):
  return jax.eval_shape(t5.Encoder(config).init, jax.random.key(0),
                        jnp.zeros((1, 4), jnp.int32))["params"]


def _run(config, params, tokens, mask=None):
  return jax.jit(t5.Encoder(config).apply)({"params": params}, tokens, mask)


@pytest.mark.parametrize("case", golden_cases.cases(
    "UMT5EncoderModel", "T5EncoderModel"))
def test_states_and_round_trip(golden, case):
  config, files = golden(case)
  c = _config(config)
  params = weights.load(files["weights"], t5.NAMES, _target(c))
  released = weights.export(params, t5.NAMES)
  assert released.keys() == files["weights"].keys()
  for name, tensor in files["weights"].items():
    np.testing.assert_array_equal(released[name], tensor)

  tokens = files["inputs"]["input_ids"].astype(np.int32)
  mask = files["inputs"]["attention_mask"].astype(bool)
  assert not mask.all()
  outputs = files["outputs"]
  states = _run(c, params, tokens, mask)
  masked = "masked" if "masked" in outputs else "last_hidden_state"
  np.testing.assert_allclose(states, outputs[masked], atol=2e-5, rtol=0)
  if "zero_padded" in outputs:
    np.testing.assert_allclose(t5.zero_padding(states, mask),
                               outputs["zero_padded"], atol=2e-5, rtol=0)
  if "unmasked" in outputs:
    np.testing.assert_allclose(_run(c, params, tokens), outputs["unmasked"],
                               atol=2e-5, rtol=0)


@pytest.mark.parametrize("case", UMT5)
def test_the_shared_tensor_wins(golden, case):
  config, files = golden(case)
  c = _config(config)
  source = dict(files["weights"])
  shared = source["shared.weight"]
  both = {"encoder.embed_tokens.weight": np.zeros_like(shared), **source}
  only = {"encoder.embed_tokens.weight": source.pop("shared.weight"), **source}
  for tensors in (both, only):
    params = weights.load(tensors, t5.NAMES, _target(c))
    np.testing.assert_array_equal(params["token"]["embedding"], shared)


def test_buckets_by_hand():
  bucket = t5.buckets(300, 32, 128)
  # keys to the left 0..15, to the right 16..31; exact below 8
  assert bucket[0, 0] == 0 and bucket[7, 0] == 7 and bucket[0, 7] == 23
  # 8 * 16^(j / 8): 16 begins the third wide bucket, 128 and beyond the last
  assert bucket[15, 0] == 9 and bucket[16, 0] == 10
  assert bucket[299, 0] == 15 and bucket[0, 299] == 31


@pytest.mark.parametrize("preset, billions", [
    ("umt5_xxl", 5.681), ("t5_v11_xxl", 4.762), ("t5_11b", 4.865)])
def test_full_size(preset, billions):
  count = sum(leaf.size for leaf in jax.tree.leaves(
      _target(t5.PRESETS[preset])))
  assert round(count / 1e9, 3) == billions


@pytest.mark.parametrize("case", UMT5)
def test_bfloat16_stays_close(golden, case):
  config, files = golden(case)
  c = dataclasses.replace(_config(config), dtype="bfloat16")
  half = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, jnp.bfloat16), _target(c))
  params = weights.load(files["weights"], t5.NAMES, half)
  tokens = files["inputs"]["input_ids"].astype(np.int32)
  mask = files["inputs"]["attention_mask"].astype(bool)
  states = _run(c, params, tokens, mask)
  assert states.dtype == jnp.bfloat16
  error = np.abs(np.asarray(states, np.float32)
                 - files["outputs"]["last_hidden_state"]).max()
  assert 0 < error < 0.15
