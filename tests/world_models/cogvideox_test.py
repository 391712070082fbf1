"""CogVideoX as a whole: sizes, gradients, and what a dream depends on."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import errors, paths, weights
from dreamgen_jax.encoders import tokenizer
from dreamgen_jax.world_models import cogvideox
from dreamgen_jax.world_models.cogvideox import presets
from dreamgen_jax.world_models.cogvideox import weights as names

_NANO = cogvideox.PRESETS["nano"]
_CONFIGS = {
    # As 1.5 is: 9 latent frames, a 10th in front.
    "nano": dataclasses.replace(_NANO, steps=2),
    # As 1.0 is: stored positions; with the noisy sampler.
    "plain": dataclasses.replace(
        _NANO, sampler="dpm", frames=5, height=16, width=16, steps=3,
        transformer=dataclasses.replace(
            _NANO.transformer, layers=1, patch=(1, 2, 2), offset=False,
            positions=16 + 3 * 4 * 4),
        vae=dataclasses.replace(_NANO.vae, widths=(4, 4))),
}
# Compiling is what these tests would spend their time on.
_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def _model(name):
  """A model, and parameters of which none hides another by being zero."""
  model = cogvideox.Model(_CONFIGS[name])
  random = np.random.default_rng(0)

  def noise(leaf):
    if leaf.ndim == 1:
      return 1 + 0.1 * random.normal(size=leaf.shape).astype(np.float32)
    spread = leaf.shape[-2] ** -0.5
    return spread * random.normal(size=leaf.shape).astype(np.float32)

  return model, jax.tree.map(noise, jax.eval_shape(
      model.init, jax.random.key(0)))


@functools.cache
def _dreamer(name):
  """dream(clips, frames) -> u8[b,f,h,w,3], of the keys and texts `clips`."""
  model, params = _model(name)
  c = model.config
  random = np.random.default_rng(0)
  frames = random.integers(0, 256, (2, c.height, c.width, 3), np.uint8)
  shape = (2, c.transformer.text_len, c.transformer.text_dim)
  text = random.normal(size=shape).astype(np.float32)
  keys = jax.random.split(jax.random.key(3), 2)
  generate = _jit(model.generate)

  def dream(clips, shown):
    return np.asarray(generate(
        params, keys[np.array(clips)], frames[shown], {"text": text[clips]},
        {"text": 0 * text[clips]})).astype(int)

  return dream


@pytest.mark.parametrize("name, billions, positions, latent, front", [
    ("cogvideox_5b_i2v", 5.570, 54.6, (13, 60, 90, 16), 0),
    ("cogvideox1_5_5b_i2v", 5.572, 0.0, (21, 96, 170, 16), 1)])
def test_full_size(name, billions, positions, latent, front):
  model = cogvideox.Model(cogvideox.PRESETS[name])
  c, key = model.config, jax.random.key(0)
  assert (c.latent_shape, c.front) == (latent, front)
  params = jax.eval_shape(model.init, key)
  count = {part: sum(x.size for x in jax.tree.leaves(tree))
           for part, tree in params.items()}
  stored = params["transformer"].get("positions", np.zeros(0)).size
  assert round(stored / 1e6, 1) == positions
  assert round((count["transformer"] - stored) / 1e9, 3) == billions
  assert round(count["vae"] / 1e6, 1) == 215.6
  assert round(count["text"] / 1e9, 3) == 4.762

  loss, scalars = jax.eval_shape(model.loss, params, key, model.example(1))
  assert loss.shape == () and loss.dtype == jnp.float32
  assert set(scalars) == {"velocity_error"}

  # Every parameter has one released name.
  tables = names.parts(c)
  assert set(tables) == set(params) == set(presets.describe(c))
  for part, tree in params.items():
    stand_ins = paths.unflatten({
        path: np.broadcast_to(np.float32(0), leaf.shape)
        for path, leaf in paths.flatten(tree).items()})
    released = weights.export(stand_ins, tables[part])
    assert sum(tensor.size for tensor in released.values()) == count[part]


def test_nano_is_small():
  params = jax.eval_shape(cogvideox.Model(_NANO).init, jax.random.key(0))
  assert sum(x.size for x in jax.tree.leaves(params)) <= 3e6
  t, h, w, _ = _NANO.latent_shape
  pt, ph, pw = _NANO.transformer.patch
  video = (t + _NANO.front) // pt * (h // ph) * (w // pw)
  assert video + _NANO.transformer.text_len <= 150


def test_fresh_transformer_predicts_zero():
  model, _ = _model("plain")

  @_jit
  def first(key):
    params = {"transformer": model.init(key)["transformer"]}
    noisy = jnp.ones((1, *model.config.latent_shape))
    batch = {name: jnp.ones(leaf.shape)
             for name, leaf in model.example(1).items()}
    return params, model.predict(params, noisy, jnp.array([500]), batch)

  params, v = first(jax.random.key(0, impl="rbg"))  # which compiles fast
  assert not np.any(v)
  assert np.any(params["transformer"]["blocks"]["attn"]["q"]["kernel"])


def _batch(model):
  random = np.random.default_rng(1)
  return {name: random.normal(size=leaf.shape).astype(np.float32)
          for name, leaf in model.example(2).items()}


def test_gradient_reaches_every_parameter():
  model, params = _model("nano")

  @_jit
  @functools.partial(jax.value_and_grad, has_aux=True)
  def loss(transformer):
    return model.loss({"transformer": transformer}, jax.random.key(2),
                      _batch(model))

  (value, scalars), gradient = loss(params["transformer"])
  # a + s lies between 1 and the root of 2.
  assert value < scalars["velocity_error"] < 2 * value
  for path, leaf in paths.flatten(gradient).items():
    assert np.isfinite(leaf).all(), path
    layers = leaf if path.startswith("blocks/") else leaf[None]
    assert all(np.any(layer) for layer in layers), path


def test_errors_are_of_the_level_that_was_asked_for():
  model = cogvideox.Model(_CONFIGS["plain"])
  zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32),
                       jax.eval_shape(model.init, jax.random.key(0)))
  batch = {name: np.zeros(leaf.shape, np.float32)
           for name, leaf in model.example(500).items()}
  tau = np.repeat(np.float32([0.25, 0.5, 0.75, 0.9, 1.0]), 100)
  found = _jit(model.error_at)(zeros, jax.random.key(0), batch, tau)
  # Nothing is predicted of noise alone: v = a noise, of a : s = 1 - tau : tau.
  signal = (1 - tau) / np.hypot(tau, 1 - tau)
  spread = tau / np.hypot(tau, 1 - tau)
  want = ((signal + spread) * signal) ** 2
  np.testing.assert_allclose(
      np.asarray(found).reshape(5, 100).mean(axis=1),
      want.reshape(5, 100).mean(axis=1), rtol=0.02, atol=1e-6)


def test_a_checkpoint_has_its_own_scale(tmp_path):
  model, params = _model("plain")
  own = dataclasses.replace(model, config=dataclasses.replace(
      model.config, vae=dataclasses.replace(model.config.vae, scale=0.25)))
  words = tokenizer.train(["push"], 16)
  cogvideox.save(tmp_path, own, params, words)
  found, _, _ = cogvideox.load(tmp_path, model.config, ("vae",))
  assert found == own


def test_stored_positions_count_but_are_not_trained():
  model, params = _model("plain")

  def loss(positions):
    transformer = params["transformer"] | {"positions": positions}
    return model.loss({"transformer": transformer}, jax.random.key(2),
                      _batch(model))[0]

  positions = params["transformer"]["positions"]
  run = _jit(loss)
  assert run(positions) != run(-positions)
  assert not np.any(_jit(jax.grad(loss))(positions))


def test_a_dream_does_not_depend_on_its_batch():
  dream, c = _dreamer("plain"), _CONFIGS["plain"]
  both = dream([0, 1], [0, 1])
  alone = np.concatenate([dream([0], [0]), dream([1], [1])])
  assert both.shape == (2, c.frames, c.height, c.width, 3)
  assert np.abs(both - alone).max() <= 1  # sums in another order, rounded
  assert np.abs(both[0] - both[1]).max() > 1


@pytest.mark.parametrize("name", _CONFIGS)
def test_a_dream_depends_on_its_frame(name):
  dream, c = _dreamer(name), _CONFIGS[name]
  first = dream([0], [0])
  assert first.shape == (1, c.frames, c.height, c.width, 3)
  np.testing.assert_array_equal(first, dream([0], [0]))
  assert np.abs(first - dream([0], [1])).max() > 1


def test_condition_is_the_frame_in_the_first_place():
  model, params = _model("plain")
  frame = np.full((1, 16, 16, 3), 200, np.uint8)
  given = _jit(model.encode_frame)(params, frame)["condition"]
  assert given.shape == model.example(1)["condition"].shape == (1, 1, 8, 8, 8)
  noisy = jnp.ones((1, 4, 8, 8, 8))
  joined = model._tell(noisy, given)
  np.testing.assert_array_equal(joined[..., :8], noisy)
  np.testing.assert_array_equal(joined[:, :1, ..., 8:], given)
  assert np.any(given) and not np.any(joined[:, 1:, ..., 8:])


def test_padding_is_attended():
  model, params = _model("nano")
  words = tokenizer.train(["pick up the red block"], 300)
  tokens = model.tokenize(words, ["pick up the red block", ""])
  assert tokens["ids"].shape == (2, 16) and set(tokens) == {"ids"}
  assert not np.any(tokens["ids"][1, 1:])
  encode = _jit(model.encode_text)
  text = encode(params, tokens)["text"]
  ids = tokens["ids"].copy()
  ids[0, -1] = 3
  changed = encode(params, {"ids": ids})["text"]
  assert np.abs(changed - text)[0, 0].max() > 0
  np.testing.assert_array_equal(changed[1], text[1])


def test_parts_must_agree():
  with pytest.raises(errors.ConfigError, match="16 and 8"):
    dataclasses.replace(_NANO, transformer=dataclasses.replace(
        _NANO.transformer, in_channels=8))
  with pytest.raises(errors.ConfigError, match="text_dim is 64"):
    dataclasses.replace(_NANO, transformer=dataclasses.replace(
        _NANO.transformer, text_dim=64))
  with pytest.raises(errors.ConfigError, match="ddim, dpm"):
    dataclasses.replace(_NANO, sampler="euler")
