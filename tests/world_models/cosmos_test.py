"""Cosmos as a whole: sizes, learning, and what a dream depends on."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import errors, paths, weights
from dreamgen_jax.encoders import tokenizer
from dreamgen_jax.world_models import cosmos
from dreamgen_jax.world_models.cosmos import model as model_lib
from dreamgen_jax.world_models.cosmos import presets
from dreamgen_jax.world_models.cosmos import weights as names

_NANO = cosmos.PRESETS["nano"]
_SMALL = dataclasses.replace(
    _NANO, frames=3, height=8, width=8, steps=3, given=(1, 2),
    transformer=dataclasses.replace(_NANO.transformer, layers=2),
    vae=dataclasses.replace(_NANO.vae, dim_mult=(1,),
                            temporal_downsample=()))  # compiles in no time


@functools.cache
def _small():
  """A model and parameters whose output depends on every input."""
  model = cosmos.Model(_SMALL)
  random = np.random.default_rng(0)

  def fill(path, shape):
    if path.endswith(("scale", "gamma", "bias")):
      return (not path.endswith("bias")) + 0.1 * random.normal(size=shape)
    return random.normal(size=shape) / np.prod(shape[-4:-1]) ** 0.5

  shapes = paths.flatten(jax.eval_shape(model.init, jax.random.key(0)))
  return model, paths.unflatten({
      path: fill(path, leaf.shape).astype(np.float32)
      for path, leaf in shapes.items()})


def _batch(model, size):
  random = np.random.default_rng(2)
  return {name: random.normal(size=leaf.shape).astype(np.float32)
          for name, leaf in model.example(size).items()}


def _shifted(batch, name, frame):
  """The batch with one latent frame of a leaf made other."""
  leaf = batch[name].copy()
  leaf[:, frame] += 1
  return batch | {name: leaf}


class _Watched(cosmos.Model):
  """Keeps the latents that it decodes."""

  latents = []  # noqa: RUF012

  def decode(self, params, latent):
    jax.debug.callback(self.latents.append, latent)
    return super().decode(params, latent)


@functools.cache
def _dreams():
  """First frames; (clips, latents) of two at once, and of each alone."""
  _, params = _small()
  model, c = _Watched(_SMALL), _SMALL
  random = np.random.default_rng(0)
  frames = random.integers(0, 256, (2, c.height, c.width, 3), np.uint8)
  text = random.normal(size=(
      2, c.transformer.text_len, c.transformer.text_dim)).astype(np.float32)
  keys = jax.random.split(jax.random.key(3), 2)
  generate = jax.jit(model.generate)
  runs = []
  for i in (slice(2), slice(1), slice(1, 2)):
    clips = generate(params, keys[i], frames[i], {"text": text[i]},
                     {"text": np.zeros_like(text[i])})
    jax.effects_barrier()
    runs.append((np.asarray(clips), np.asarray(model.latents.pop())))
  return frames, runs


@functools.cache
def _encoder():
  return jax.jit(_small()[0].encode_frame)


def _given(frame):
  return _encoder()(_small()[1], frame)["condition"]


@pytest.mark.parametrize("name", [
    "predict2_2b_480p_10fps", "nano"])
def test_loss_traces_at_full_size(name):
  model = cosmos.Model(cosmos.PRESETS[name])
  key = jax.random.key(0)
  params = jax.eval_shape(model.init, key)
  batch = model.example(1)
  loss, scalars = jax.eval_shape(model.loss, params, key, batch)
  assert loss.shape == () and loss.dtype == jnp.float32
  assert set(scalars) == {"velocity_error"}
  assert set(batch) == {"latent", "condition", "text"}
  # Every parameter of every part has one released name.
  tables = names.parts(model.config)
  assert set(tables) == set(params) == set(presets.describe(model.config))
  for part, table in tables.items():
    flat = paths.flatten(params[part])
    stand_ins = {path: np.broadcast_to(np.float32(0), leaf.shape)
                 for path, leaf in flat.items()}
    released = weights.export(paths.unflatten(stand_ins), table)
    assert sum(tensor.size for tensor in released.values()) == sum(
        leaf.size for leaf in flat.values())


def test_released_sizes():
  assert len(cosmos.PRESETS) == 11
  for name, c in cosmos.PRESETS.items():
    latent_frames = 16 if name.endswith("10fps") else 24
    space = (88, 160) if "720p" in name else (54, 96)
    if name != "nano":
      assert c.latent_shape == (latent_frames, *space, 16)
  params = jax.eval_shape(cosmos.Model(_NANO).init, jax.random.key(0))
  sizes = {part: sum(leaf.size for leaf in jax.tree.leaves(tree))
           for part, tree in params.items()}
  assert sizes["transformer"] < 3_000_000, sizes
  t, h, w, _ = _NANO.latent_shape
  assert t * h * w // 16 <= 150

  params = jax.eval_shape(
      cosmos.Model(cosmos.PRESETS["groot_dreams_gr1"]).init, jax.random.key(0))
  sizes = {part: sum(leaf.size for leaf in jax.tree.leaves(tree)) / 1e9
           for part, tree in params.items()}
  assert round(sizes["transformer"], 3) == 14.265
  assert round(sizes["text"], 3) == 4.865
  assert round(sizes["vae"], 4) == 0.1269


def test_described_as_released():
  facts = presets.describe(cosmos.PRESETS["predict2_2b_720p_16fps"])
  assert facts["transformer"]["in_channels"] == 17
  assert facts["transformer"]["mlp_ratio"] == 4.0
  assert facts["transformer"]["rope_scale"] == [1.0, 3.0, 3.0]
  assert facts["text"]["d_ff"] == 65_536
  assert facts["text"]["feed_forward_proj"] == "relu"


def test_gradient_reaches_every_parameter():
  model, params = _small()
  batch = _batch(model, 2)

  @jax.jit
  def run(transformer):
    return jax.value_and_grad(
        lambda x: model.loss({"transformer": x}, jax.random.key(4), batch),
        has_aux=True)(transformer)

  fresh = jax.jit(lambda key: model.init(key)["transformer"])
  (loss, scalars), _ = run(fresh(jax.random.key(0, impl="rbg")))
  assert 0 < loss < 10 and 0 < scalars["velocity_error"] < 10

  (loss, scalars), gradient = run(params["transformer"])
  assert np.isfinite(loss) and np.isfinite(scalars["velocity_error"])
  for path, leaf in paths.flatten(gradient).items():
    layers = leaf if path.startswith("blocks/") else leaf[None]
    for layer in layers:
      assert np.isfinite(layer).all() and np.any(layer), path


class _Linear(cosmos.Model):
  """Its network is the mean over what it is told."""

  def velocity(self, params, noisy, tau, clean, known, text, memory=None):
    told, time = model_lib._tell(noisy, tau, clean, known)
    mean = jnp.mean(told[..., :-model_lib.MASKS], axis=1, keepdims=True)
    return mean + time[:, :, None, None, None]


def test_given_frames_are_told_and_not_learnt():
  key = jax.random.key(5)

  @functools.cache
  def model(given, dropout=0.0):
    return jax.jit(_Linear(dataclasses.replace(
        _SMALL, given=given, frame_dropout=dropout)).loss)

  def loss(batch, *options):
    return model(*options)({}, key, batch)[0]

  batch = _batch(cosmos.Model(_SMALL), 1)
  others = {
      "condition": _shifted(batch, "condition", 0),
      "frame 0": _shifted(batch, "latent", 0),
      "frame 1": _shifted(batch, "latent", 1),
  }
  one, two = (1, 1), (2, 2)
  base = loss(batch, one)
  assert loss(others["condition"], one) != base
  assert loss(others["frame 1"], one) != base
  # What the clip has in the given frame is neither read nor asked for.
  assert loss(others["frame 0"], one) == base
  assert loss(batch, two) != base
  # Dropped frames are told as zeros, and not asked for either.
  dropped = one, 1.0
  assert loss(others["condition"], *dropped) == loss(batch, *dropped) != base

  # Release and here: the mean of the loss counts given frames, as zeros.
  scalars = model(two)({}, key, batch)[1]
  frames = _SMALL.latent_shape[0]
  np.testing.assert_allclose(
      loss(batch, two), scalars["velocity_error"] * (frames - 2) / frames,
      rtol=1e-5)


def test_errors_on_held_out_clips():
  model, batch = _Linear(_SMALL), _batch(cosmos.Model(_SMALL), 2)
  tau = np.array([0.3, 0.6], np.float32)
  errors_at = jax.jit(model.error_at)
  error = errors_at({}, jax.random.key(7), batch, tau)
  assert error.shape == (2,)
  other = errors_at({}, jax.random.key(7), _shifted(batch, "latent", 0), tau)
  np.testing.assert_allclose(other, error, rtol=1e-6)
  # Each at its own level, over the frames that are not given.
  noise = np.array(jax.random.normal(
      jax.random.key(7), batch["latent"].shape))
  level = tau[:, None, None, None, None]
  told = (1 - level) * batch["latent"] + level * noise
  told[:, :1] = batch["condition"]
  times = np.repeat(level, 3, axis=1)
  times[:, 0] = 9.999e-5
  velocity = told.mean(1, keepdims=True) + times
  wanted = (velocity - (noise - batch["latent"]))[:, 1:] ** 2
  np.testing.assert_allclose(error, wanted.mean((1, 2, 3, 4)), rtol=1e-5)


def test_what_the_network_is_told():
  noisy, clean = jnp.full((2, 3, 1, 1, 4), 5.0), jnp.full((2, 3, 1, 1, 4), 7.0)
  known = model_lib._known(3, jnp.array([1, 2]))
  told, time = model_lib._tell(noisy, jnp.array([0.3, 0.6]), clean, known)
  mask = np.array([[1, 0, 0], [1, 1, 0]])
  np.testing.assert_array_equal(told[..., 0, 0, 0], 5 + 2 * mask)
  np.testing.assert_array_equal(told[..., 0, 0, 4], mask)
  np.testing.assert_array_equal(told[..., 0, 0, 5], 0)
  np.testing.assert_allclose(
      time, [[9.999e-5, 0.3, 0.3], [9.999e-5, 9.999e-5, 0.6]], rtol=1e-6)


def test_the_clip_starts_with_what_was_given():
  frames, (_, (_, latent), _) = _dreams()
  given = _given(frames[:1])
  np.testing.assert_allclose(latent[:, :1], given, atol=1e-5)
  assert np.all(np.any(np.abs(latent[:, 1:] - given) > 0.1, axis=(2, 3, 4)))


def test_a_clip_goes_on_from_several_frames():
  model, params = _small()
  batch = _batch(model, 1)
  given, text = batch["latent"][:, :2], {"text": batch["text"]}
  latent = jax.jit(model.denoise)(
      params, batch["latent"][::-1], {"condition": given}, text, text)
  np.testing.assert_array_equal(latent[:, :2], given)
  assert np.isfinite(latent).all() and np.any(latent[:, 2:])


def test_the_frame_alone_is_the_start_of_its_clip():
  model, params = _small()
  video = np.random.default_rng(1).integers(
      0, 256, (1, _SMALL.frames, 8, 8, 3), np.uint8)
  latent = jax.jit(model.encode_video)(params, video)
  np.testing.assert_allclose(_given(video[:, 0]), latent[:, :1], atol=1e-5)


def test_a_dream_does_not_depend_on_its_batch():
  _, ((both, _), *alone) = _dreams()
  assert both.dtype == np.uint8 and both.shape == (2, 3, 8, 8, 3)
  apart = both.astype(int) - np.concatenate([clip for clip, _ in alone])
  assert np.abs(apart).max() <= 1  # sums in another order, then rounded
  assert np.abs(both[0].astype(int) - both[1]).max() > 1


def test_prompts_to_states():
  model, params = _small()
  words = tokenizer.train(["pick up the red block"], 300)
  tokens = model.tokenize(words, ["pick up", "pick up the red block"])
  text = jax.jit(model.encode_text)(params, tokens)["text"]
  assert text.shape == model.example(2)["text"].shape
  length = tokens["mask"].sum(1)
  assert list(length) == [3, 6]
  for row, end in zip(text, length, strict=True):
    assert np.all(np.any(row[:end], -1)) and not np.any(row[end:])


def test_misfits_are_errors():
  for changes, message in (
      ({"solver": "heun"}, "solver is 'heun'"),
      ({"given": (0, 1)}, r"given is \(0, 1\)"),
      ({"given": (1, 9)}, "fewer than the clip's"),
      ({"transformer": dataclasses.replace(_SMALL.transformer,
                                           in_channels=8)}, "10 channels"),
  ):
    with pytest.raises(errors.ConfigError, match=message):
      dataclasses.replace(_SMALL, **changes)
