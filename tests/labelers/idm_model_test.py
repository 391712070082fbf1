"""The inverse dynamics model as a labeler."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import errors, paths, safetensors, types, weights
from dreamgen_jax.data import labels
from dreamgen_jax.labelers import idm
from dreamgen_jax.labelers.idm import weights as idm_weights
from dreamgen_jax.stages import labelers
from tests import drawn

TINY = dataclasses.replace(
    idm.PRESETS["nano"], vision_width=16, vision_heads=2, vision_depth=1,
    vision_mlp=32, width=16, heads=2, refine_depth=1, dit_depth=2,
    embodiments=3, camera_size=32, resizes=(32,), sample_steps=2, draws=2,
    views=2, dropout=0.3, state_dim=3)


@pytest.fixture(scope="module")
def model():
  return idm.Model(TINY)


@pytest.fixture(scope="module")
def params(model):
  return drawn.params(model)


@pytest.fixture(scope="module")
def label(model):
  """Pairs of images -> two samples of their chunks."""

  @jax.jit
  def run(params, keys, images, embodiment):
    seen = [model.see(params, images[:, i]) for i in (0, 1)]
    return model.label(params, keys, jnp.stack(seen, 1), embodiment, 2)

  return run


def _batch(model, size):
  rng = np.random.default_rng(0)
  shapes = model.example(size)
  return {
      "images": rng.integers(0, 256, shapes["images"].shape, np.uint8),
      "action": rng.normal(size=shapes["action"].shape).astype(np.float32),
      "mask": np.ones(shapes["mask"].shape, bool),
      "state": rng.normal(size=shapes["state"].shape).astype(np.float32),
      "state_mask": np.arange(2 * size).reshape(size, 2) % 3 > 0,
      "embodiment": rng.integers(0, 3, size).astype(np.int32),
  }


def test_released_preset_has_the_released_size():
  model = idm.Model(idm.PRESETS["groot_dreams"])
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(tree))
           for name, tree in (shapes["encoder"] | shapes["denoiser"]).items()}
  assert sum(sizes.values()) == 637_390_850
  assert sizes["vision"] == 315_956_224
  assert sizes["projector"] == 10_506_240
  assert sizes["refine"] == 50_384_896
  assert sizes["dit"] == 121_992_192
  for path, leaf in paths.flatten(shapes).items():
    axes = next(axes for rule, axes in idm.RULES if re.search(rule, path))
    assert axes or leaf.size < 2 ** 20, path  # nothing large is replicated


def test_nano_preset_is_nano():
  model = idm.Model(idm.PRESETS["nano"])
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) < 6e6


def test_the_loss_reaches_every_parameter(model, params):
  batch = _batch(model, 6) | {"embodiment": np.arange(6, dtype=np.int32) % 3}

  @jax.jit
  def gradient(params, rng):
    return jax.value_and_grad(model.loss, has_aux=True)(params, rng, batch)

  (loss, metrics), grads = gradient(params, jax.random.key(1))
  assert np.isfinite(loss)
  assert metrics["flow"] + metrics["state"] == pytest.approx(
      float(loss), rel=1e-5)
  grads = paths.flatten(grads)
  # Keys share their bias's effect with the softmax, which cancels it.
  still = {path for path, leaf in grads.items() if not np.any(leaf)}
  assert all(path.endswith("k/bias") for path in still), still
  again = gradient(params, jax.random.key(1))[0][0]
  other = gradient(params, jax.random.key(2))[0][0]
  assert again == loss != other


def test_a_state_is_that_of_its_own_frame(model, params):
  """Known states count, in equal parts; what is not known does not."""
  batch = _batch(model, 2)
  seen = np.random.default_rng(0).normal(
      size=(2, 2, 2, 4, 16)).astype(np.float32)
  found = np.stack([model.state(params, seen[:, i], batch["embodiment"])
                    for i in (0, 1)], axis=1)
  error = np.square(found - batch["state"]).mean(-1)
  assert batch["state_mask"].tolist() == [[False, True], [True, False]]
  np.testing.assert_allclose(
      model.state_error(params, seen, batch),
      error[batch["state_mask"]].mean(), rtol=1e-5)
  plain = idm.Model(dataclasses.replace(TINY, state_dim=0))
  assert "state" not in plain.example(1)
  assert "state" not in jax.eval_shape(plain.init, jax.random.key(0))


def test_released_files_are_loaded(model, params, tmp_path):
  released = weights.export(
      {name: params[name] for name in ("encoder", "denoiser")},
      idm_weights.names(TINY))
  safetensors.write_folder(tmp_path, "model", {
      name: np.asarray(tensor) for name, tensor in released.items()},
      {"format": "pt"})
  plain = dataclasses.replace(TINY, state_dim=0)
  found = paths.flatten(idm.load(tmp_path, plain))
  want = paths.flatten(params)
  assert found.keys() == {
      path for path in want if not path.startswith("state/")}
  for path, leaf in found.items():
    np.testing.assert_array_equal(leaf, want[path])
  with pytest.raises(errors.CheckpointError, match="action_encoder"):
    idm.load(tmp_path, dataclasses.replace(plain, embodiments=4))


def test_released_weights_keep_their_width():
  robot = types.Embodiment("stick", 0, (), (types.Key("x", 3),), {},
                           types.Clock(5.0, 5.0))
  spec = {"name": "idm", "preset": "nano", "kw": {}, "source": "folder"}
  base = labels.TimeBase(5.0, 5.0, 0.4, 2)
  wide = labelers.build(spec, robot, base, ["front"])
  assert (wide.config.action_dim, wide.config.horizon) == (5, 2)
  assert labelers.build(
      spec | {"source": ""}, robot, base, ["front"]).config.action_dim == 3
  many = dataclasses.replace(robot, action=(types.Key("x", 6),))
  with pytest.raises(errors.ConfigError, match="hold 5 dimensions of action"):
    labelers.build(spec, many, base, ["front"])
  with pytest.raises(errors.ConfigError, match="'vpt' were ever released"):
    labelers.start(spec | {"name": "vpt"}, wide, jax.random.key(0))


def test_narrower_robots_are_padded(model, params):
  batch = _batch(model, 2)
  narrow = batch | {name: batch[name][..., :3] for name in ("action", "mask")}
  loss, _ = jax.eval_shape(
      model.loss, params, jax.random.key(0, impl="rbg"), narrow)
  assert loss.shape == ()


def test_masked_entries_do_not_count(model, params):
  batch = _batch(model, 2)
  batch["mask"][:, :, 3:] = False
  seen, noise = jnp.zeros((2, 2, 2, 4, 16)), jnp.ones((2, 4, 5))

  @jax.jit
  def loss(action):  # at t = 0 the networks see noise only
    return model.loss_at(
        params, seen, batch | {"action": action}, noise, jnp.zeros(2))

  known, unknown = batch["action"].copy(), batch["action"].copy()
  known[:, :, :3] += 1
  unknown[:, :, 3:] += 1
  assert loss(unknown) == loss(batch["action"]) != loss(known)


def test_draws_share_the_images_and_are_averaged(model, params):
  batch = _batch(model, 2)
  batch["mask"][0, 2:] = False
  seen = jnp.zeros((2, 2, 2, 4, 16))
  noise = np.random.default_rng(0).normal(size=(4, 4, 5)).astype(np.float32)
  t = np.array([0.1, 0.5, 0.9, 0.3], np.float32)
  loss = jax.jit(model.loss_at)
  both = loss(params, seen, batch, noise, t)
  each = [loss(params, seen, batch, noise[i:i + 2], t[i:i + 2])
          for i in (0, 2)]
  np.testing.assert_allclose(both, np.mean(each), rtol=1e-5)


def test_a_label_depends_on_its_own_key_and_images_only(
    model, params, label):
  batch = _batch(model, 3)
  keys = jax.random.split(jax.random.key(3), 3)
  together = label(params, keys, batch["images"], batch["embodiment"])
  assert together.shape == (2, 3, 4, 5)
  assert np.abs(together[0] - together[1]).max() > 1e-3
  turned = label(params, keys[::-1], batch["images"][::-1],
                 batch["embodiment"][::-1])
  np.testing.assert_allclose(turned[:, ::-1], together, atol=1e-5)
  other = label(params, keys, batch["images"][:, ::-1], batch["embodiment"])
  assert np.abs(other - together).max() > 1e-4  # which frame is first matters


def test_fewer_views_may_be_labelled_but_not_more(model, params):
  row, key = jnp.zeros(1, jnp.int32), jax.random.key(0)

  def label(views):
    seen = jnp.zeros((1, 2, views, 4, 16))
    return jax.eval_shape(model.label, params, key, seen, row)

  assert label(1).shape == (1, 1, 4, 5)
  with pytest.raises(errors.ConfigError, match="3 views make 6 images"):
    label(3)


@pytest.mark.parametrize("change,match", [
    (dict(projector="mlp"), "mlp_downsample"),
    (dict(patch=32, projector="mlp_downsample"), "cannot halve"),
    (dict(patch=7), "divisible"),
    (dict(horizon=64), "positions"),
    (dict(sample_steps=0), "at least 1"),
])
def test_what_does_not_fit_is_refused(change, match):
  with pytest.raises(errors.ConfigError, match=match):
    dataclasses.replace(TINY, **change)
