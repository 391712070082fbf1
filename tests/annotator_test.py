"""From videos to labels, with a labeler that is plain arithmetic."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import annotator, errors, types
from dreamgen_jax.data import labels, normalize

ROBOT = types.Embodiment(
    "stick", 3, (types.Key("seen", 1, normalize="identity"),),
    (types.Key("pair", 2, normalize="identity"),
     types.Key("noise", 1, normalize="identity")),
    {"front": "front", "wrist": "wrist"}, types.Clock(5.0, 5.0))


@dataclasses.dataclass(frozen=True)
class Config:
  """The least that a labeler's config has."""

  camera_size: int = 4


@dataclasses.dataclass(frozen=True)
class Reader:
  """Labels are the brightness of both frames, and noise; states that of one."""

  config: Config = Config()

  def see(self, params, images):
    return images[:, 0, 0, 0, 0].astype(jnp.float32)  # b

  def label(self, params, rng, seen, embodiment, samples):
    noise = jax.vmap(lambda key: jax.random.normal(key, (samples,)))(rng)
    both = jnp.tile(seen[None], (samples, 1, 1))
    chunk = jnp.concatenate([both, noise.T[..., None]], -1)
    return jnp.tile(chunk[:, :, None], (1, 1, 4, 1))  # k b u a

  def state(self, params, seen, embodiment):
    return seen[:, None] + 100 * embodiment[:, None]


def _unit(keys):
  width = sum(key.dims for key in keys)
  rows = normalize.Accumulator(width)
  rows.add(np.zeros((1, width)))
  return normalize.Normalizer.create(keys, rows.result())


def _annotator(**changes):
  return annotator.Annotator(**dict(
      model=Reader(), params={}, embodiment=ROBOT, cameras=("front",),
      time_base=labels.TimeBase(5.0, 5.0, 0.4, 4), samples=3,
      normalizer=_unit(ROBOT.action), weights="uniform", batch_size=4,
      digest="me", state_normalizer=_unit(ROBOT.state)) | changes)


def _episode(frames=9, hz=5.0, **fields):
  """Every frame is as bright as its number."""
  video = np.zeros((frames, 4, 4, 3), np.uint8)
  video += np.arange(frames, dtype=np.uint8)[:, None, None, None]
  return types.Episode(
      id="counted", video={"front": video}, instruction="", embodiment="x",
      clock=types.Clock(hz, hz), origin=types.Origin("dream", seed=7), **fields)


def test_windows_are_read_from_frames_seen_once():
  (found,) = _annotator().label([_episode()])
  # Step 5 is of the windows that start at 2, 3, 4 and 5.
  np.testing.assert_allclose(found.action[5, :2], [3.5, 5.5])
  np.testing.assert_allclose(found.disagreement[5, :2], np.std([2, 3, 4, 5]))
  assert found.spread[5, 2] > found.disagreement[5, 2] > 0
  assert found.origin.labeler == "me" and not found.origin.state_decoded
  assert found.state is None and found.embodiment == "stick"


@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_labels_do_not_depend_on_the_batch(batch_size):
  first, second = (list(_annotator(batch_size=size).label(
      [_episode(), _episode(6)])) for size in (4, batch_size))
  for a, b in zip(first, second, strict=True):
    np.testing.assert_array_equal(a.action, b.action)
    np.testing.assert_array_equal(a.spread, b.spread)


def test_the_spread_is_calibrated():
  (plain,), (found,) = (
      list(_annotator(calibration=factors).label([_episode()]))
      for factors in ((), (2.0,) * (ROBOT.action_dim - 1) + (1.0,)))
  np.testing.assert_array_equal(found.action, plain.action)
  np.testing.assert_array_equal(found.spread[:, :-1], 2 * plain.spread[:, :-1])
  np.testing.assert_array_equal(found.spread[:, -1], plain.spread[:, -1])
  assert found.spread.dtype == np.float32


def test_a_stride_leaves_windows_out():
  (found,) = _annotator(stride=4).label([_episode(10)])
  np.testing.assert_allclose(
      found.action[:, 0], [0] * 4 + [4] * 4 + [8] * 2)
  np.testing.assert_allclose(
      found.action[:, 1], [2] * 4 + [6] * 4 + [9] * 2)  # clamped at the end
  np.testing.assert_allclose(found.disagreement, 0, atol=1e-6)
  with pytest.raises(errors.DataError, match="'counted': Windows every 5"):
    list(_annotator(stride=5).label([_episode(10)]))


@pytest.mark.parametrize(("state", "want"), [
    ("zero", None), ("recorded", np.arange(9)),
    ("decoded", 300 + np.arange(9))])
def test_states_as_chosen(state, want):
  known = np.arange(9, dtype=np.float32)[:, None]
  (found,) = _annotator(state=state).label([_episode(state=known)])
  assert found.origin.state_decoded == (state == "decoded")
  if want is None:
    assert found.state is None
  else:
    np.testing.assert_allclose(found.state[:, 0], want)


def test_states_between_frames_are_interpolated():
  """Seen every fourth frame, wanted at twice the rate of the video."""
  (found,) = _annotator(
      state="decoded", stride=2,
      time_base=labels.TimeBase(10.0, 5.0, 0.8, 4)).label([_episode(9)])
  np.testing.assert_allclose(found.state[:, 0], 300 + np.arange(17) / 2)


@pytest.mark.parametrize(("changes", "match"), [
    (dict(state="guessed"), "Unknown state 'guessed'; have: zero, decoded"),
    (dict(state="decoded", state_normalizer=None), "decodes no states")])
def test_states_that_cannot_be(changes, match):
  with pytest.raises(errors.ConfigError, match=match):
    _annotator(**changes)


def test_a_missing_view_and_a_video_of_one_frame():
  with pytest.raises(errors.DataError, match=(
      "'counted' lacks the camera 'wrist' .* has front")):
    list(_annotator(cameras=("front", "wrist")).label([_episode()]))
  with pytest.raises(errors.DataError, match="'counted': A video of 1 frames"):
    list(_annotator().label([_episode(1)]))


def test_another_rate_than_learnt_is_seen_at_the_learnt_one():
  (found,) = _annotator().label([_episode(33, hz=20.0)])
  assert found.clock == types.Clock(20.0, 5.0)
  np.testing.assert_allclose(found.action[8, 1], (28 + 3 * 32) / 4)
  np.testing.assert_allclose(found.action[3, :2], [6, 14])


def test_states_of_single_frames():
  video = _episode(6).video
  np.testing.assert_allclose(
      _annotator().states(video)[:, 0], 300 + np.arange(6))
  with pytest.raises(errors.ConfigError, match="config.state = True"):
    _annotator(state_normalizer=None).states(video)
