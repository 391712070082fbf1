"""LAPA's latent actions: layouts, codes, statistics, time, mistakes."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import annotator, errors, paths, registry, types
from dreamgen_jax.data import labels, normalize
from dreamgen_jax.labelers import lapa
from dreamgen_jax.labelers.lapa import codebook, net
from tests import drawn

TINY = dataclasses.replace(
    lapa.PRESETS["nano"], camera_size=16, patch=2, width=16, heads=2,
    head_width=8, spatial_depth=1, code_width=4)


@pytest.fixture(scope="module")
def model():
  return lapa.Model(TINY)


@pytest.fixture(scope="module")
def params(model):
  return drawn.params(model, 0.3)


def _images(count, seed=0):
  return np.random.default_rng(seed).integers(
      0, 256, (count, 2, 1, 16, 16, 3), np.uint8)


@pytest.mark.parametrize(("preset", "latent"), [
    ("lapa", 128), ("dreamgen", 512)])
def test_released_presets(preset, latent):
  model = lapa.Model(lapa.PRESETS[preset])
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  size = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  if preset == "lapa":
    assert round(size / 1e6, 1) == 343.8
  labels = jax.eval_shape(
      model.label, shapes, jax.random.key(0),
      model.example(2)["images"], jnp.zeros(2, jnp.int32))
  assert labels.shape == (1, 2, 1, latent) and model.config.quirks
  for path, leaf in paths.flatten(shapes).items():
    axes = next(axes for rule, axes in lapa.RULES if re.search(rule, path))
    assert axes or leaf.size < 2 ** 20, path  # nothing large is replicated


def test_nano_preset_is_nano():
  shapes = jax.eval_shape(
      lapa.Model(lapa.PRESETS["nano"]).init, jax.random.key(0))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) < 1e6


# --- layouts -----------------------------------------------------------------


def _positions(scrambled, x):
  module = net.Positions(scrambled)
  kernel = np.random.default_rng(0).normal(
      size=(3, 3, 3, x.shape[-1])).astype(np.float32)
  return np.asarray(module.apply(
      {"params": {"kernel": kernel, "bias": np.zeros(x.shape[-1])}}, x))


def test_convolution_sees_neighbours_and_the_past():
  x = np.zeros((2, 2, 4, 5, 1), np.float32)
  x[0, 1, 2, 2] = 1
  y = _positions(False, x)
  assert not y[1].any() and not y[0, 0].any()
  assert np.argwhere(y[0, 1, ..., 0]).tolist() == [
      [h, w] for h in (1, 2, 3) for w in (1, 2, 3)]
  first = np.zeros_like(x)
  first[0, 0, 2, 2] = 1
  assert _positions(False, first)[0].any((1, 2, 3)).all()


def test_released_temporal_blocks_convolve_scrambled_tokens():
  x = np.random.default_rng(0).normal(size=(2, 2, 4, 4, 3)).astype(np.float32)
  # (place, time) in memory, taken for (time, place).
  memory = x.transpose(0, 2, 3, 1, 4).reshape(2, 2, 4, 4, 3)
  want = _positions(False, memory).reshape(2, 4, 4, 2, 3).transpose(
      0, 3, 1, 2, 4)
  np.testing.assert_allclose(_positions(True, x), want, atol=1e-5)
  assert np.abs(want - _positions(False, x)).max() > 0.1


def test_released_decoder_reads_scrambled_codes(model, params):
  rng = np.random.default_rng(0)
  codes = rng.normal(size=(2, 4, 4)).astype(np.float32)
  codes[:, :, 3] *= 3
  first = rng.normal(size=(2, 8, 8, 16)).astype(np.float32)
  released = lapa.Model(dataclasses.replace(TINY, quirks=True))
  plain = jax.jit(model.decode)
  found = jax.jit(released.decode)(params, codes, first)
  want = plain(params, codes.reshape(2, 4, 4).swapaxes(1, 2), first)
  np.testing.assert_allclose(found, want, atol=1e-5)
  assert np.abs(found - plain(params, codes, first)).max() > 1e-3


def test_a_latent_is_of_its_own_pair_in_its_order(model, params):
  label = jax.jit(model.label)
  images, row = _images(3), np.zeros(3, np.int32)
  key = jax.random.key(0)
  (found,) = label(params, key, images, row)
  assert found.shape == (3, 1, 16)
  np.testing.assert_allclose(
      label(params, key, images[::-1], row)[0, ::-1], found, atol=1e-5)
  back = label(params, key, images[:, ::-1], row)[0]
  assert np.abs(back - found).max() > 1e-3
  samples = model.label(params, key, images, row, 2)
  np.testing.assert_allclose(samples, np.stack([found] * 2), atol=1e-5)


# --- codes -------------------------------------------------------------------
def test_labels_as_codes(model, params, monkeypatch):
  said = dataclasses.replace(model.config, as_codes=True, codes=4)
  latent = np.zeros((2, said.slots, said.code_width), np.float32)
  latent[1, 0] = 3.0
  monkeypatch.setattr(
      lapa.Model, "encode", lambda self, params, frames: (latent, None))
  book = np.arange(4, dtype=np.float32)[:, None] * np.ones(said.code_width)
  found = lapa.Model(said).label({"codebook": book}, None, _images(2), None)
  assert found.shape == (1, 2, 1, said.latent_dim) == (1, 2, 1, said.slots)
  np.testing.assert_allclose(found[0, 0, 0], -0.75)  # the first of four codes
  assert found[0, 1, 0, 0] == 0.75


def test_noise_is_as_long_as_the_error():
  rng = np.random.default_rng(0)
  latent, code, noise = rng.normal(size=(3, 5, 4)).astype(np.float32)
  moved = codebook.substitute(latent, code, noise) - latent
  length = _norm(latent - code)
  np.testing.assert_allclose(_norm(moved), length, rtol=1e-5)
  np.testing.assert_allclose(
      moved / length[:, None], noise / _norm(noise)[:, None],
      rtol=1e-4)
  still = jax.grad(lambda x: codebook.substitute(x, code, noise).sum())(code)
  assert np.isfinite(still).all()  # a latent that is a code


def _norm(x):
  return np.linalg.norm(x, axis=-1)


def test_use_of_the_codebook():
  index = np.array([[0, 1], [0, 2], [0, 3], [0, 1]])
  found = {name: float(value)
           for name, value in codebook.usage(index, 8).items()}
  assert found["perplexity/slot_0"] == pytest.approx(1)
  assert found["perplexity/slot_1"] == pytest.approx(2 ** 1.5, rel=1e-4)
  assert (found["dead/slot_0"], found["dead/slot_1"]) == (7, 5)
  assert found["dead"] == 4
  assert [found[f"use/code_{i}"] for i in range(8)] == [
      0.5, 0.25, 0.125, 0.125, 0, 0, 0, 0]
  assert found["perplexity"] == pytest.approx(2 ** 1.75, rel=1e-4)


@pytest.mark.parametrize(("dead", "twins"), [
    ([1, 3], {1: {0}, 3: {2}}),
    ([], {}),
    ([0, 1, 2, 3], {}),
    ([0, 1, 2], {0: {3}, 1: {3}, 2: {3}}),
])
def test_dead_codes_join_living_ones(dead, twins):
  book = np.arange(8, dtype=np.float32).reshape(4, 2) * 10
  mask = np.isin(np.arange(4), dead)
  found = np.asarray(codebook.revive(book, mask, 0.01, jax.random.key(0)))
  for code in range(4):
    if code not in twins and code not in dead:
      np.testing.assert_array_equal(found[code], book[code])
      continue
    away = np.abs(found[code] - book).max(1)
    assert set(np.flatnonzero(away < 0.1)) == twins.get(code, {code})
    assert away.min() > 0  # a little beside, or they would stay twins


def test_many_dead_codes_are_dealt_out_evenly():
  book, dead = np.eye(8, dtype=np.float32), np.arange(8) > 2
  deals = set()
  for seed in range(8):
    found = codebook.revive(book, dead, 0.0, jax.random.key(seed))
    turn = np.argmax(np.asarray(found), 1)
    np.testing.assert_array_equal(turn[:3], [0, 1, 2])
    assert max(np.bincount(turn[3:], minlength=3)) <= 2  # 5 over 3
    deals.add(tuple(turn))
  assert len(deals) > 1


def test_released_looks_for_dead_codes():
  model = lapa.Model(dataclasses.replace(
      TINY, looks=lapa.PRESETS["lapa"].looks))
  book = jnp.asarray(np.eye(8, 4, dtype=np.float32))
  params = {"codebook": book}
  scalars = {f"use/code_{i}": jnp.float32(i < 2) for i in range(8)}

  def after(step, batches):
    return model.maintain(
        params, {"batches": jnp.asarray(batches)}, scalars,
        jnp.asarray(step), jax.random.key(0))

  looked = [step for step in (
      0, 5, 10, 99, 100, 110, 200, 990, 1000, 1100, 1500, 4500, 5000, 5500)
            if not np.asarray(after(step, [9] * 8)[1]["batches"]).any()]
  assert looked == [10, 100, 200, 1000, 1500, 4500]
  new, memory = after(11, [0] * 8)
  assert memory["batches"].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
  np.testing.assert_array_equal(new["codebook"], book)
  # 6.4 batches are too many to ask after 6, whatever the period.
  new, memory = after(100, [6, 5] + [7] * 6)
  assert not memory["batches"].any()
  np.testing.assert_array_equal(new["codebook"][2:], book[2:])
  np.testing.assert_array_equal(new["codebook"][0], book[0])
  np.testing.assert_allclose(new["codebook"][1], book[0], atol=0.1)
  frozen, _ = model.maintain(
      {"codebook": None}, model.memory(), scalars, jnp.asarray(10), None)
  assert frozen["codebook"] is None


# --- time --------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Reader:
  """Instead of a latent, the brightness of both frames."""

  config: lapa.Config = TINY

  def see(self, params, images):
    return images[:, 0, 0, 0, 0].astype(jnp.float32)

  def label(self, params, rng, seen, embodiment, samples):
    return jnp.tile(seen[:, None], (samples, 1, 1, 1))


def _label(frames, hz, seconds=1.0):
  """Labels at 5 Hz of a video that counts its frames."""
  latent = registry.find("embodiments", "latent").EMBODIMENT
  robot = dataclasses.replace(latent, action=(
      types.Key("latent", 2, normalize="identity"),))
  statistics = normalize.Accumulator(2)
  statistics.add(np.zeros((1, 2)))
  labeler = annotator.Annotator(
      model=Reader(), params={}, embodiment=robot, cameras=("front",),
      time_base=labels.TimeBase(5.0, 5.0, seconds, 1), samples=1,
      normalizer=normalize.Normalizer.create(
          robot.action, statistics.result()),
      weights="uniform", batch_size=4, digest="x", whole=True)
  video = np.zeros((frames, 4, 4, 3), np.uint8)
  video += np.arange(frames, dtype=np.uint8)[:, None, None, None]
  episode = types.Episode(
      id="counted", video={"front": video}, instruction="",
      embodiment="tabletop_panda", clock=types.Clock(hz, hz),
      origin=types.Origin("dream"))
  (found,) = labeler.label([episode])
  return found


@pytest.mark.parametrize(("frames", "hz"), [
    (17, 5.0), (33, 10.0), (49, 16.0), (81, 24.0)])
def test_labels_are_a_second_apart_by_the_clock(frames, hz):
  found = _label(frames, hz)
  assert found.embodiment == "latent" and found.clock.control_hz == 5
  known = np.isfinite(found.action).all(1)
  last = (frames - 1) / hz
  np.testing.assert_array_equal(
      known, np.arange(len(known)) / 5 + 1 <= last + 1e-6)
  first, second = found.action[known].T / hz
  np.testing.assert_allclose(second - first, 1, atol=1e-5)
  np.testing.assert_allclose(
      first, np.arange(known.sum()) / 5, atol=0.5 / hz + 1e-6)
  assert np.isfinite(found.spread).all()  # which is how it is stored


def test_a_video_that_is_too_short_is_refused():
  assert np.isfinite(_label(6, 5.0).action).any()
  with pytest.raises(errors.DataError, match=(
      "Episode 'counted': A video of 0.8 s has no two frames that are 1 s "
      "apart")):
    _label(5, 5.0)
  with pytest.raises(errors.DataError, match="0.8 s"):
    _label(16, 16.0)  # 0.94 s, the last fifth of which is not whole


@pytest.mark.parametrize(("change", "match"), [
    (dict(slots=9), "1, 4, 16"),
    (dict(slots=16), "16 x 16 patches.*set patch to 1"),
    (dict(codes=1), "two codes"),
    (dict(looks=((0, 100),)), "looks"),
])
def test_what_does_not_fit_is_refused(change, match):
  with pytest.raises(errors.ConfigError, match=match):
    dataclasses.replace(TINY, **change)


@pytest.mark.parametrize("shape", [(1, 2, 2, 16, 16, 3), (1, 2, 1, 32, 32, 3)])
def test_other_pictures_are_refused(model, shape):
  with pytest.raises(errors.DataError, match="one camera, 16x16 pixels"):
    model.frames(np.zeros(shape, np.uint8))
