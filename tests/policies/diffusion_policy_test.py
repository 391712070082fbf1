"""The contract of Diffusion Policy, at a size that trains in seconds."""

import dataclasses
import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dreamgen_jax import errors, paths, weights
from dreamgen_jax.policies import diffusion_policy
from dreamgen_jax.policies.diffusion_policy import vision
from dreamgen_jax.policies.diffusion_policy import weights as names
from dreamgen_jax.stages import models
from tests import drawn

SMALL = dataclasses.replace(
    diffusion_policy.PRESETS["nano"],
    action_dim=2, state_dim=3, image_size=(16, 16), n_obs_steps=2, horizon=8,
    text_dim=4, text_features=8, state_dropout=0.0, late=1, pad=0,
    jitter=0.0,
    vision=vision.Config(
        widths=(16,), blocks=(1,), strides=(2,), stem_kernel=3, stem_stride=1,
        stem_pool=False, keypoints=8, features=16, film=True),
    widths=(32, 64), step_width=32, inference_steps=10)


def size(tree):
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def make_batch(config, batch_size, seed=0):
  batch = drawn.batch(diffusion_policy.Model(config), batch_size, seed)
  return batch | {"weight": np.ones(batch_size, np.float32)}


@pytest.fixture(scope="module")
def small():
  model = diffusion_policy.Model(SMALL)
  return model, jax.jit(model.init)(jax.random.key(0))


@pytest.fixture(scope="module")
def loss(small):
  return jax.jit(small[0].loss)


@pytest.fixture(scope="module")
def act(small):
  def observed(params, key, batch):
    unseen = ("action", "mask", "weight")
    return compiled(params, key, {
        name: leaf for name, leaf in batch.items() if name not in unseen})

  compiled = jax.jit(small[0].act)
  return observed


@functools.cache
def shapes(preset, **kw):
  config = dataclasses.replace(diffusion_policy.PRESETS[preset], **kw)
  return jax.eval_shape(
      diffusion_policy.Model(config).init, jax.random.key(0))


def test_sizes_of_the_presets():
  released = shapes("hybrid_image", cameras=("front", "wrist"))
  camera = released["encoder"]["camera_front"]
  trunk = {key: value for key, value in camera.items()
           if key not in ("softmax", "project")}
  assert size(trunk) == 11_176_512  # torchvision's ResNet-18 without fc
  assert round(size(released["unet"]) / 1e6, 1) == 255.6
  assert 1e6 < size(shapes("nano")) < 2e6


@pytest.mark.parametrize("preset", list(diffusion_policy.PRESETS))
def test_full_size_traces(preset):
  model = diffusion_policy.Model(diffusion_policy.PRESETS[preset])
  batch = model.example(2)
  scalar, _ = jax.eval_shape(
      model.loss, shapes(preset), jax.random.key(0), batch)
  chex.assert_shape(scalar, ())
  chunk = jax.eval_shape(model.act, shapes(preset), jax.random.key(0), batch)
  c = model.config
  chex.assert_shape(chunk, (2, c.horizon - c.n_obs_steps + 1, c.action_dim))


def test_released_names_cover_the_released_preset():
  params = jax.tree.map(
      lambda leaf: np.broadcast_to(np.float32(0), leaf.shape),
      shapes("hybrid_image"))
  table = names.NAMES["diffusion_policy"]
  released = weights.export(params, table)
  stem = released["obs_encoder.obs_nets.front.backbone.nets.0.weight"]
  assert stem.shape == (64, 3, 7, 7)
  assert released["model.up_modules.1.2.conv.weight"].shape == (512, 512, 4)
  located = {name: weights.locate(name, table) for name in released}
  assert {place[0][1] for place in located.values()} == set(
      paths.flatten(params))


def test_the_released_transformer():
  params = shapes("hybrid_image_transformer")
  assert round(size(params["transformer"]) / 1e6, 1) == 9.0
  released = weights.export(params, names.NAMES["diffusion_policy"])
  fused = released["model.decoder.layers.7.multihead_attn.in_proj_weight"]
  assert fused.shape == (768, 256)
  assert all(any(re.search(rule, path) for rule, _ in diffusion_policy.RULES)
             for path in paths.flatten(params))


def test_rules_cover_every_parameter(small):
  uncovered = [
      path for path in paths.flatten(small[1])
      if not any(re.search(rule, path) for rule, _ in diffusion_policy.RULES)]
  assert not uncovered


def test_masked_and_unknown_actions_do_not_count(small, loss):
  _, params = small
  batch = make_batch(SMALL, 4)
  key = jax.random.key(1)
  batch["mask"][:, :, 1] = False
  expected, _ = loss(params, key, batch)
  batch["action"][:, :, 1] = np.nan
  chex.assert_trees_all_equal(loss(params, key, batch)[0], expected)
  batch["mask"][:] = False
  assert loss(params, key, batch)[0] == 0


def test_weight_scales_a_samples_share(small, loss):
  _, params = small
  batch = make_batch(SMALL, 4)
  key = jax.random.key(1)

  def value(*w):
    weighted = batch | {"weight": np.array(w, np.float32)}
    return float(loss(params, key, weighted)[0])

  first, second = value(1, 0, 0, 0), value(0, 1, 0, 0)
  assert first != second
  np.testing.assert_allclose(
      value(3, 1, 0, 0), (3 * first + second) / 4, rtol=1e-5)


def silent(params):
  """The same network with an output of zeros."""
  last = jax.tree.map(jnp.zeros_like, params["unet"]["final"])
  return params | {"unet": params["unet"] | {"final": last}}


def test_predicting_the_chunk(small, loss):
  batch = make_batch(SMALL, 4)
  value, _ = loss(silent(small[1]), jax.random.key(0), batch)
  np.testing.assert_allclose(value, np.mean(batch["action"]**2), rtol=1e-5)


def test_predicting_the_noise(small):
  config = dataclasses.replace(SMALL, prediction="epsilon")
  value, _ = jax.jit(diffusion_policy.Model(config).loss)(
      silent(small[1]), jax.random.key(0), make_batch(config, 64))
  np.testing.assert_allclose(value, 1.0, rtol=0.15)


def test_a_guess_is_what_a_silent_network_says():
  config = dataclasses.replace(SMALL, guess=8, widths=(8,))
  model = diffusion_policy.Model(config)
  params = jax.tree.map(
      lambda leaf: jnp.zeros(leaf.shape),
      jax.eval_shape(model.init, jax.random.key(0)))
  rng, batch = np.random.default_rng(0), make_batch(config, 2)
  said = rng.uniform(-1, 1, (8, 2)).astype(np.float32)
  params["guess"]["out"]["bias"] = jnp.ravel(said)
  value, found = jax.jit(model.loss)(params, jax.random.key(0), batch)
  missed = np.mean((batch["action"] - said)**2)
  np.testing.assert_allclose(value, 2 * missed, rtol=1e-5)
  np.testing.assert_allclose(list(found.values()), missed, rtol=1e-5)
  unseen = ("action", "mask", "weight")
  chunk = jax.jit(model.act)(params, jax.random.key(0), {
      name: leaf for name, leaf in batch.items() if name not in unseen})
  np.testing.assert_allclose(chunk[1], said[1:], atol=1e-5)


def test_a_guess_learns_from_its_own_error_alone():
  config = dataclasses.replace(SMALL, guess=8, widths=(8,))
  model, batch = diffusion_policy.Model(config), make_batch(config, 2)
  params = jax.jit(model.init)(jax.random.key(0))
  slopes = [jax.jit(jax.grad(lambda params, rng, name=name: model.loss(
      params, rng, batch)[1][name]))(params, jax.random.key(1))["guess"]
            for name in ("loss", "guess")]
  assert [any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(each))
          for each in slopes] == [False, True]


def test_a_sentence_says_what_keypoints_look_for():
  pixels = np.zeros((2, 5, 9, 3), np.float32)
  pixels[:, 1, 2, 0] = pixels[:, 4, 8, 1] = 1  # one red, one green
  query = {"kernel": 100 * np.eye(2, 3, dtype=np.float32), "bias": np.zeros(3)}
  found = vision.SpatialSoftmax(1).apply(
      {"params": {"query": query}}, pixels, np.eye(2, dtype=np.float32))
  np.testing.assert_allclose(found[:, 0], [[-0.5, -0.5], [1, 1]], atol=1e-6)


def test_unknown_state_is_ignored_but_told(small, act):
  _, params = small
  batch = make_batch(SMALL, 4)
  key = jax.random.split(jax.random.key(0), 4)
  known = act(params, key, batch)
  hidden = batch | {"state_mask": np.zeros((4, 2), bool)}
  unknown = act(params, key, hidden)
  other = act(params, key, hidden | {"state": batch["state"] * np.nan})
  chex.assert_trees_all_equal(unknown, other)
  zero = act(params, key, batch | {"state": batch["state"] * 0})
  assert not np.allclose(known, unknown)
  assert not np.allclose(zero, unknown, atol=1e-4)


def test_state_dropout_withholds_the_state(small):
  _, params = small
  config = dataclasses.replace(SMALL, state_dropout=0.999999)
  loss = jax.jit(diffusion_policy.Model(config).loss)
  batch = make_batch(config, 4)
  key = jax.random.key(0)
  expected = loss(params, key, batch)[0]
  batch["state"] *= 5
  chex.assert_trees_all_equal(loss(params, key, batch)[0], expected)


def test_a_samples_actions_do_not_depend_on_the_batch(small, act):
  _, params = small
  batch = make_batch(SMALL, 4)
  keys = jax.random.split(jax.random.key(3), 4)
  together = act(params, keys, batch)
  others = make_batch(SMALL, 4, seed=1)
  mixed = {name: np.concatenate([batch[name][3:], others[name][1:]])
           for name in batch}
  apart = act(params, keys[::-1], mixed)
  np.testing.assert_allclose(apart[0], together[3], atol=1e-5)
  assert not np.allclose(act(params, keys[::-1], batch), together)


def test_overfits_one_batch_and_language_selects(small, act):
  model, params = small
  batch = make_batch(SMALL, 4)
  # Rows 0 and 1 differ in their words only, rows 0 and 2 in the image only.
  for name in ("state", "image/front"):
    batch[name][1] = batch[name][0]
  for name in ("state", "text"):
    batch[name][2] = batch[name][0]
  batch["action"] = np.cumsum(batch["action"], axis=1) / 4
  batch["action"] = np.clip(batch["action"], -1, 1)
  repeated = {name: np.repeat(leaf, 4, 0) for name, leaf in batch.items()}
  steps = 200
  optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

  @jax.jit
  def step(params, state, key):
    value, grads = jax.value_and_grad(
        lambda p: model.loss(p, key, repeated)[0])(params)
    updates, state = optimizer.update(grads, state)
    return optax.apply_updates(params, updates), state, value

  state = optimizer.init(params)
  values = []
  for key in jax.random.split(jax.random.key(0), steps):
    params, state, value = step(params, state, key)
    values.append(value)
  values = np.asarray(values)
  assert np.mean(values[-20:]) < 0.1 * np.mean(values[:5])
  keys = jax.random.split(jax.random.key(1), 4)
  chunk = np.asarray(act(params, keys, batch))
  # The chunk's first step is the past observation's; `act` cuts it off.
  np.testing.assert_allclose(chunk, batch["action"][:, 1:], atol=0.1)
  assert np.abs(chunk[0] - chunk[1:3]).max(axis=(1, 2)).min() > 0.3


@pytest.mark.parametrize("kw,message", [
    ({"horizon": 9}, "divisible by 2"),
    ({"n_obs_steps": 0}, "must lie in"),
    ({"crop": (20, 16)}, "does not fit"),
    ({"inference_steps": 101}, "must lie in"),
    ({"prediction": "velocity"}, "have: epsilon, sample"),
    ({"text_dim": 0}, "needs language"),
    ({"prediction": "epsilon", "guess": 8}, "is of the clean chunk"),
    ({"state_flag": False, "state_dropout": 0.1}, "needs state_flag"),
])
def test_mistakes_in_a_config(kw, message):
  with pytest.raises(errors.ConfigError, match=message):
    dataclasses.replace(SMALL, **kw)


@pytest.mark.parametrize("kw, message", [
    ({"widths": (20,), "blocks": (1,), "strides": (1,)}, "multiples of 16"),
    ({"widths": (16,)}, "one entry per stage"),
])
def test_mistakes_in_a_part_of_a_config(kw, message):
  spec = {"name": "diffusion_policy", "preset": "nano", "kw": {"vision": kw}}
  with pytest.raises(errors.ConfigError, match=message):
    models.build("policies", spec)
