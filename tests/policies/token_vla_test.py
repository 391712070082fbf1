"""Actions as tokens: bins, causality, decoding, pre-training's parameters."""

import dataclasses
import functools

import chex
import jax
import numpy as np
import pytest

from dreamgen_jax import errors
from dreamgen_jax.encoders import gemma, siglip
from dreamgen_jax.policies import token_vla
from dreamgen_jax.policies.token_vla import bins
from tests import drawn

SMALL = dataclasses.replace(
    token_vla.PRESETS["nano"], action_dim=2, state_dim=3, image_size=(16, 16),
    horizon=2, vocabulary=30, bins=8, text_length=3, jitter=(0.0, 0.0, 0.0),
    vision=siglip.Config(16, 1, 2, 16, 8, 16),
    language=gemma.Config(16, 1, 16, 2, 1, 8))
MODEL = token_vla.Model(SMALL)


def test_bins_are_openvlas(golden):
  _, files = golden("rollout")
  (tensors,) = files.values()
  index = bins.encode(tensors["in/actions"], 256)
  np.testing.assert_array_equal(
      bins.token(index, 32_000), tensors["out/openvla_token_ids"])
  np.testing.assert_allclose(
      bins.decode(index, 256), tensors["out/openvla_decoded"], atol=1e-6)


@pytest.fixture(scope="module")
def small():
  batch = drawn.batch(MODEL, 3, tokens=10)
  batch["token_mask"][:, 2] = False
  return drawn.params(MODEL, 1.0, 1), batch, jax.jit(MODEL.loss), jax.jit(
      MODEL.act)


def test_what_is_said_is_what_the_loss_calls_right(small):
  params, batch, loss, act = small
  seen = {name: leaf for name, leaf in batch.items()
          if name not in ("action", "mask")}
  chunk = np.asarray(act(params, jax.random.key(0), seen))
  chex.assert_shape(chunk, (3, 2, 2))
  assert len(np.unique(chunk.round(3))) > 2
  key = jax.random.key(1)
  said = loss(params, key, batch | {"action": chunk})[1]
  # Teacher forcing and decoding see the same.
  assert said["accuracy"] == 1
  # What is masked may be anything, and says nothing to what is before it.
  batch = batch | {"action": chunk.copy(), "mask": batch["mask"].copy()}
  batch["mask"][:, 1] = False
  expected = loss(params, key, batch)[0]
  batch["action"][:, 1] = np.nan
  assert loss(params, key, batch)[0] == expected


def test_padding_is_not_read(small):
  params, batch, _, act = small
  seen = {name: leaf for name, leaf in batch.items()
          if name not in ("action", "mask")}
  key = jax.random.key(0)
  other = seen | {"tokens": seen["tokens"].copy()}
  other["tokens"][:, 2] = 9
  chex.assert_trees_all_equal(act(params, key, seen), act(params, key, other))


def test_released_sizes_trace():
  model = token_vla.Model(token_vla.PRESETS["paligemma_3b"])
  params = jax.eval_shape(model.init, jax.random.key(0))
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  # SigLIP with its head, Gemma 2B and its words.
  assert round(count / 1e6) == round(414.8 + 1981.9 + 526.6)
  chunk = jax.eval_shape(
      model.act, params, jax.random.key(0), model.example(2))
  chex.assert_shape(chunk, (2, 1, 7))


def test_mistakes():
  with pytest.raises(errors.ConfigError, match="fewer than its vocabulary"):
    dataclasses.replace(SMALL, bins=30)

  class Tokenizer:
    pass

  ids = np.full((1, 3), 25), np.ones((1, 3), bool)
  from dreamgen_jax.encoders import gemma_prompt
  read = functools.partial(MODEL.read, Tokenizer(), ["push"], np.zeros(1))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Tokenizer, "tokenizer", None, raising=False)
    patch.setattr(gemma_prompt, "tokenize", lambda *_: ids)
    with pytest.raises(errors.ConfigError, match="last 9 stand for actions"):
      read()
