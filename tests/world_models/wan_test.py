"""Wan as a whole: sizes, learning, and what a dream depends on."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dreamgen_jax import errors
from dreamgen_jax.encoders import clip, tokenizer
from dreamgen_jax.world_models import wan
from dreamgen_jax.world_models.wan import condition

_NANO = wan.PRESETS["nano"]
_TOWER = clip.Config(width=32, depth=2, heads=4, mlp_width=48, patch=14,
                     image_size=28)
_SMALL = dataclasses.replace(
    _NANO, frames=5, height=32, width=32, steps=2,
    transformer=dataclasses.replace(_NANO.transformer, layers=1),
    vae=dataclasses.replace(_NANO.vae, dim_mult=(1, 1, 1)))
_CONFIGS = {
    "plain": _SMALL,
    "image": dataclasses.replace(
        _SMALL, image=_TOWER, transformer=dataclasses.replace(
            _SMALL.transformer, image_dim=_TOWER.width)),
    "replace": dataclasses.replace(
        _SMALL, given="replace", transformer=dataclasses.replace(
            _SMALL.transformer, in_channels=_SMALL.vae.z_dim)),
    "experts": dataclasses.replace(_SMALL, boundary=0.9, low_guidance=2.0),
}


@functools.cache
def _small(name):
  """A model and parameters whose output depends on every input."""
  model = wan.Model(_CONFIGS[name])
  params = jax.jit(model.init)(jax.random.key(0))
  for i, expert in enumerate(model.config.experts):
    # The head is born zero, and would hide all that lies before it.
    head = params[expert]["head"]
    head["kernel"] = 0.1 * jax.random.normal(
        jax.random.key(1 + i), head["kernel"].shape)
  return model, params


@functools.cache
def _dreams(name):
  """Dreams of two prompts: twice, and in the other order."""
  model, params = _small(name)
  c = model.config
  random = np.random.default_rng(0)
  frames = random.integers(0, 256, (2, c.height, c.width, 3), np.uint8)
  text = random.normal(size=(
      2, c.transformer.text_len, c.transformer.text_dim)).astype(np.float32)
  keys = jax.random.split(jax.random.key(3), 2)
  generate = jax.jit(model.generate)
  empty = np.zeros_like(text)
  return [np.asarray(generate(params, keys[order], frames[order],
                              {"text": text[order]}, {"text": empty[order]}))
          for order in np.array([[0, 1], [0, 1], [1, 0]])]


@pytest.mark.parametrize("name", wan.PRESETS)
def test_loss_traces_at_full_size(name):
  model = wan.Model(wan.PRESETS[name])
  key = jax.random.key(0)
  params = jax.eval_shape(model.init, key)
  batch = model.example(1)
  loss, scalars = jax.eval_shape(model.loss, params, key, batch)
  assert loss.shape == () and loss.dtype == jnp.float32
  assert set(scalars) == {"velocity_error"}
  branch = {"image"} if "2_1" in name and "t2v" not in name else set()
  told = set() if "t2v" in name else {"condition"}
  assert set(batch) == {"latent", "text"} | branch | told
  assert set(params) == {"vae", "text", *model.config.experts} | branch


@pytest.mark.parametrize("name, billions, latent", [
    ("wan2_1_i2v_14b_480p", 16.395, (21, 60, 104, 16)),
    ("wan2_1_i2v_14b_720p", 16.395, (21, 90, 160, 16)),
    ("wan2_1_flf2v_14b", 16.396, (21, 90, 160, 16)),
    ("wan2_1_t2v_14b", 14.288, (21, 60, 104, 16)),
    ("wan2_1_t2v_1_3b", 1.419, (21, 60, 104, 16)),
    ("wan2_2_i2v_a14b", 14.289, (21, 60, 104, 16)),
    ("wan2_2_ti2v_5b", 5.0, (31, 44, 80, 48)),
])
def test_released_sizes(name, billions, latent):
  c = wan.PRESETS[name]
  shapes = jax.eval_shape(wan.Model(c).init, jax.random.key(0))
  for expert in c.experts:
    count = sum(x.size for x in jax.tree.leaves(shapes[expert]))
    assert round(count / 1e9, 3) == billions
  assert c.latent_shape == latent
  if c.image:
    frames = 1 + c.sees_last_frame
    assert wan.Model(c).example(2)["image"].shape == (2, 257 * frames, 1280)


def test_the_nano_of_2_2_is_small():
  model = wan.Model(wan.PRESETS["wan2_2_nano"])
  params = jax.eval_shape(model.init, jax.random.key(0))
  assert sum(x.size for x in jax.tree.leaves(params)) <= 3e6
  c = model.config
  assert (c.frames, c.height, c.width) == (17, 64, 64)
  assert np.prod(c.latent_shape[:3]) / np.prod(c.transformer.patch) <= 150


def test_nano_learns_a_fixed_batch():
  model = wan.Model(dataclasses.replace(
      _NANO, frames=5, transformer=dataclasses.replace(
          _NANO.transformer, layers=2)))  # what differs costs only time
  keys = iter(jax.random.split(jax.random.key(0), 5))
  batch = {name: jax.random.normal(next(keys), leaf.shape)
           for name, leaf in model.example(1).items()}
  params = jax.jit(model.init)(next(keys))["transformer"]
  optimiser = optax.adam(3e-3)
  state, key = optimiser.init(params), next(keys)

  @jax.jit
  def step(params, state):
    (loss, _), gradient = jax.value_and_grad(
        lambda x: model.loss({"transformer": x}, key, batch),
        has_aux=True)(params)
    updates, state = optimiser.update(gradient, state)
    return optax.apply_updates(params, updates), state, loss

  losses = []
  for _ in range(15):
    params, state, loss = step(params, state)
    losses.append(float(loss))
  assert np.isfinite(losses).all()
  assert losses[-1] < 0.9 * losses[0], losses


@pytest.mark.parametrize("name", _CONFIGS)
def test_same_key_same_dream(name):
  both, again, _ = _dreams(name)
  np.testing.assert_array_equal(both, again)
  assert both.dtype == np.uint8 and both.shape == (2, 5, 32, 32, 3)


@pytest.mark.parametrize("name", _CONFIGS)
def test_a_dream_does_not_depend_on_its_neighbours(name):
  both, _, turned = _dreams(name)
  apart = both.astype(int) - turned[::-1]
  assert np.abs(apart).max() <= 1  # sums in another order, then rounded
  assert np.abs(both[0].astype(int) - both[1]).max() > 1


def test_image_branch_sees_the_frame():
  model, params = _small("image")
  batch = {name: jax.random.normal(jax.random.key(1), leaf.shape)
           for name, leaf in model.example(1).items()}
  loss = jax.jit(lambda batch: model.loss(
      params, jax.random.key(2), batch)[0])
  assert float(loss(batch)) != float(loss(batch | {"image": -batch["image"]}))

  frames = np.zeros((2, 32, 32, 3), np.uint8)
  frames[1] = 255
  states = jax.jit(model.encode_frame)(params, frames)["image"]
  assert states.shape == (2, *model.example(1)["image"].shape[1:])
  assert not np.allclose(states[0], states[1], atol=1e-2)


def test_autoencoding_in_chunks_is_the_same():
  model, params = _small("plain")
  c = model.config
  chunked = wan.Model(dataclasses.replace(
      c, vae=dataclasses.replace(c.vae, chunk=1)))
  frames = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
  latent = jax.random.normal(jax.random.key(0), (1, *c.latent_shape))
  whole, parts = (jax.jit(lambda params, model=model: (
      model.encode_frame(params, frames)["condition"],
      model.decode(params, latent)), compiler_options={
          "xla_backend_optimization_level": 0})(params)
      for model in (model, chunked))
  np.testing.assert_allclose(whole[0], parts[0], atol=1e-5)
  assert np.abs(whole[1].astype(int) - parts[1]).max() <= 1


def test_a_last_frame_where_it_is_told():
  model, params = _small("plain")
  frame = np.zeros((1, 32, 32, 3), np.uint8)
  with pytest.raises(errors.DataError, match="told no last frame, .* one"):
    model.encode_frame(params, frame, frame)
  both = wan.Model(dataclasses.replace(model.config, given="both_ends"))
  with pytest.raises(errors.DataError, match="told its last frame, .* none"):
    both.encode_frame(params, frame)
  latent = jnp.zeros((1, 3, 1, 1, 4))
  given = condition.mask(latent, 4, last=True)[0, :, 0, 0]
  np.testing.assert_array_equal(
      given, [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1]])
  video = condition.clip(5, *jnp.ones((2, 1, 1, 1, 3)))[0, :, 0, 0, 0]
  np.testing.assert_array_equal(video, [1, 0, 0, 0, 1])


def test_each_expert_learns_its_own_range():
  model, params = _small("experts")
  batch = {name: jax.random.normal(jax.random.key(1), leaf.shape)
           for name, leaf in model.example(1).items()}
  taus = {}
  for expert in model.config.experts:
    taus[expert] = np.concatenate([model._expert_tau(
        {expert: None}, jax.random.key(i), jax.random.uniform(
            jax.random.key(100 + i), (64,))) for i in range(4)])
  boundary = model.config.boundary
  assert taus["transformer"].min() > boundary > taus["transformer_2"].max()
  assert taus["transformer"].max() > 0.95 and taus["transformer_2"].min() < 0.2
  loss = jax.jit(lambda params, key: model.loss(params, key, batch)[0])
  experts = {name: params[name] for name in model.config.experts}
  found = [float(loss(experts, jax.random.key(i))) for i in range(8)]
  apart = [{float(loss({name: experts[name]}, jax.random.key(i)))
            for name in experts} for i in range(8)]
  assert all(min(abs(value - one) for one in pair) < 1e-5
             for value, pair in zip(found, apart, strict=True))
  picks = {np.argmin([abs(value - one) for one in pair])
           for value, pair in zip(found, map(sorted, apart), strict=True)}
  assert picks == {0, 1}


def test_image_tower_and_transformer_must_agree():
  with pytest.raises(errors.ConfigError, match="32.*image_dim is None"):
    dataclasses.replace(_SMALL, image=_TOWER)
  with pytest.raises(errors.ConfigError, match="None.*image_dim is 32"):
    dataclasses.replace(_CONFIGS["image"], image=None)


@pytest.mark.parametrize("name", _CONFIGS)
def test_folder_gives_back_what_was_saved(name, tmp_path):
  model, params = _small(name)
  words = tokenizer.train(["pick up the red block"], 300)
  wan.save(tmp_path, model, params, words, np.float32)
  assert (tmp_path / "image_encoder").exists() == (name == "image")
  again, loaded, _ = wan.load(str(tmp_path), model.config)
  assert again == model
  jax.tree.map(np.testing.assert_array_equal, loaded, jax.device_get(params))
