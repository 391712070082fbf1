"""Chunks fold back into the actions they came from, in the right time."""

import numpy as np
import pytest

from dreamgen_jax import errors, types
from dreamgen_jax.data import labels, normalize, rotation

X = types.Key("x", 1)
YAW = types.Key("yaw", 1, unit="rad", kind="angle")
GRIP = types.Key("grip", 1, kind="binary")
TURN = types.Key("turn", 3, unit="rad", kind="rotation")


def _chunks(action, starts, horizon):
  """Perfect chunks of action[n, a], last row repeated: [n_windows, u, a]."""
  step = np.asarray(starts)[:, None] + np.arange(horizon)
  return action[np.minimum(step, len(action) - 1)]


def test_time_base_round_trip_and_frames():
  base = labels.TimeBase(20.0, 5.0, 0.4, 8)
  assert labels.TimeBase.from_dict(base.to_dict()) == base
  assert base.gap_frames() == 2
  assert base.gap_frames(10.0) == 4
  assert base.steps_per_gap == pytest.approx(8)
  np.testing.assert_allclose(base.chunk_times(), np.arange(8) / 20)


def test_time_base_refuses_a_gap_between_frames():
  with pytest.raises(errors.ConfigError, match="3.2 frames at 8 Hz"):
    labels.TimeBase(20.0, 8.0, 0.4, 8)
  base = labels.TimeBase(20.0, 5.0, 0.4, 8)
  with pytest.raises(errors.ConfigError, match="whole number"):
    base.gap_frames(8.0)
  with pytest.raises(errors.ConfigError, match="horizon"):
    labels.TimeBase(20.0, 5.0, 0.4, 0)
  with pytest.raises(errors.ConfigError, match="exactly"):
    labels.TimeBase.from_dict({"control_hz": 20.0})


def test_pairs_cover_every_frame_and_stop_at_the_last():
  base = labels.TimeBase(10.0, 5.0, 0.6, 6)
  np.testing.assert_array_equal(
      labels.pairs(5, base), [[0, 3], [1, 4], [2, 4], [3, 4], [4, 4]])
  with pytest.raises(errors.DataError, match="two"):
    labels.pairs(1, base)


def test_clips_and_strides():
  base = labels.TimeBase(10.0, 5.0, 0.8, 6)
  np.testing.assert_array_equal(
      labels.pairs(7, base, images=3, stride=3),
      [[0, 2, 4], [3, 5, 6], [6, 6, 6]])
  with pytest.raises(errors.DataError, match="as long as 3 frames"):
    labels.pairs(7, base, stride=4)


def test_windows_of_a_faster_video_keep_the_gap_in_seconds():
  base = labels.TimeBase(20.0, 5.0, 0.4, 8)
  index, starts = labels.windows(33, 20.0, base)
  np.testing.assert_array_equal(index[:3], [[0, 8], [4, 12], [8, 16]])
  np.testing.assert_array_equal(starts[:3], [0, 4, 8])
  assert index.max() == 32


def test_the_time_error_of_the_release_and_ours():
  """A robot at constant speed; the labeler splits the motion that it sees
  over the chunk that it was trained to give: 16 steps in 16 frames.
  """
  hz, speed, horizon = 16.0, 0.1, 16
  base = labels.TimeBase(hz, hz, 1.0, horizon)
  frames = 93
  position = np.arange(frames) * speed / hz  # m, seen in frame i

  def label(index):
    step = (position[index[:, 1]] - position[index[:, 0]]) / horizon
    return np.broadcast_to(step[:, None, None], (len(index), horizon, 1))

  clamped = frames - horizon
  # The release pairs frames 8 apart with the same 16-step chunk.
  first = np.arange(frames)
  release = np.stack([first, np.minimum(first + 8, frames - 1)], axis=1)
  action, *_ = labels.aggregate(label(release), first, frames, [X])
  np.testing.assert_allclose(action[:clamped, 0], 0.5 * speed / hz, rtol=1e-5)

  index, starts = labels.windows(frames, hz, base)
  action, spread, _ = labels.aggregate(label(index), starts, frames, [X])
  np.testing.assert_allclose(action[:clamped, 0], speed / hz, rtol=1e-5)
  np.testing.assert_allclose(spread[:clamped], 0, atol=1e-7)

  # The same second seen by a camera half as fast: gap 8 frames, 16 steps.
  slow = labels.TimeBase(hz, hz / 2, 1.0, horizon)
  index, starts = labels.windows(frames, hz, slow)
  action, *_ = labels.aggregate(label(index), starts, frames, [X])
  np.testing.assert_allclose(action[:clamped, 0], speed / hz, rtol=1e-5)


@pytest.mark.parametrize("weights", labels.WEIGHTS)
@pytest.mark.parametrize("video_hz", [5.0, 4.0, 3.0])
def test_constant_chunks_give_the_constant(weights, video_hz):
  base = labels.TimeBase(10.0, video_hz, 1.0, 10)
  _, starts = labels.windows(12, video_hz, base)
  chunks = np.broadcast_to(np.array([0.3, -3.0, 1.0]), (len(starts), 10, 3))
  length = int(starts[-1]) + 5
  action, spread, _ = labels.aggregate(
      chunks, starts, length, [X, YAW, GRIP], weights)
  np.testing.assert_allclose(
      action, np.broadcast_to([0.3, -3.0, 1.0], (length, 3)), rtol=1e-5)
  np.testing.assert_allclose(spread, 0, atol=1e-6)


def test_perfect_chunks_give_the_actions_back():
  rng = np.random.default_rng(0)
  action = np.stack([rng.normal(size=40), rng.uniform(-3.1, 3.1, 40),
                     rng.integers(0, 2, 40)], axis=1)
  starts = np.arange(0, 40, 2)
  got, spread, _ = labels.aggregate(
      _chunks(action, starts, 6), starts, 40, [X, YAW, GRIP], "gaussian")
  np.testing.assert_allclose(got, action, atol=1e-5)
  np.testing.assert_allclose(spread, 0, atol=1e-4)


def test_starts_between_steps_are_interpolated():
  """Video at 16 Hz, control at 20 Hz: starts 0, 1.25, 2.5, ..."""
  _, starts = labels.windows(
      20, 16.0, labels.TimeBase(20.0, 16.0, 0.5, 8))
  time = starts[:, None] + np.arange(8)
  turn = np.mod(0.3 * time + np.pi, 2 * np.pi) - np.pi
  chunks = np.stack([2.0 * time, turn], axis=2)
  got, spread, _ = labels.aggregate(chunks, starts, 24, [X, YAW])
  np.testing.assert_allclose(got[:, 0], 2.0 * np.arange(24), rtol=1e-5)
  want = np.mod(0.3 * np.arange(24) + np.pi, 2 * np.pi) - np.pi
  np.testing.assert_allclose(got[:, 1], want, atol=1e-5)
  np.testing.assert_allclose(spread, 0, atol=1e-5)


def test_uniform_mean_over_the_covering_windows():
  chunks = np.arange(6.0).reshape(3, 2, 1)  # [0 1] [2 3] [4 5]
  action, spread, _ = labels.aggregate(chunks, np.arange(3), 3, [X])
  np.testing.assert_allclose(action[:, 0], [0, 1.5, 3.5])  # the last 5 drops
  np.testing.assert_allclose(spread[:, 0], [0, 0.5, 0.5])


def test_exponential_weights_lean_on_the_beginning():
  chunks = np.array([[[0.0], [0.0]], [[1.0], [1.0]]])
  action, *_ = labels.aggregate(
      chunks, np.arange(2), 2, [X], "exponential")
  assert action[1, 0] > 0.8  # entry 0 of window 1 outweighs entry 1 of 0


def test_angles_meet_across_the_seam():
  chunks = np.array([[[np.pi - 0.1]], [[-np.pi + 0.3]]])
  action, spread, _ = labels.aggregate(chunks, np.zeros(2), 1, [YAW])
  assert action[0, 0] == pytest.approx(-np.pi + 0.1, abs=1e-5)
  assert spread[0, 0] == pytest.approx(0.2, abs=1e-5)
  degrees = types.Key("yaw", 1, unit="deg", kind="angle")
  action, *_ = labels.aggregate(
      np.array([[[170.0]], [[-170.0]]]), np.zeros(2), 1, [degrees])
  assert abs(action[0, 0]) == pytest.approx(180.0, abs=1e-3)


def test_rotations_meet_in_their_group():
  """Half a turn about z from both sides: the vectors' mean would be none."""
  chunks = np.array([[[0, 0, np.pi - 0.1]], [[0, 0, 0.3 - np.pi]]])
  action, spread, apart = labels.aggregate(chunks, np.zeros(2), 1, [TURN])
  np.testing.assert_allclose(action, [[0, 0, 0.1 - np.pi]], atol=1e-6)
  np.testing.assert_allclose(spread, [[0, 0, 0.2]], atol=1e-6)
  np.testing.assert_allclose(apart, spread, atol=1e-6)


def test_rotations_between_steps_follow_the_arc():
  _, starts = labels.windows(
      20, 16.0, labels.TimeBase(20.0, 16.0, 0.5, 8))
  start, turn = np.array([0.4, -2.0, 1.0]), np.array([0.1, 0.2, -0.05])
  time = (starts[:, None] + np.arange(8))[..., None]
  got, spread, _ = labels.aggregate(
      rotation.plus(start, time * turn), starts, 24, [X, TURN][1:])
  want = rotation.plus(start, np.arange(24)[:, None] * turn)
  np.testing.assert_allclose(
      rotation.matrix(got), rotation.matrix(want), atol=1e-6)
  np.testing.assert_allclose(spread, 0, atol=1e-6)


def test_binary_votes_with_the_raw_values():
  """Two weak yes against one firm no: thresholding first would say yes."""
  chunks = np.array([0.55, 0.6, -0.2]).reshape(3, 1, 1)
  action, spread, _ = labels.aggregate(chunks, np.zeros(3), 1, [GRIP])
  assert action[0, 0] == 0
  assert spread[0, 0] == pytest.approx(np.std([0.55, 0.6, -0.2]), rel=1e-5)


def test_physical_units_keep_binary_values_raw():
  zero, top = np.zeros(2), np.array([2.0, 1.0])
  normalizer = normalize.Normalizer.create([X, GRIP], normalize.Statistics(
      mean=zero, std=zero, min=zero, max=top, q01=zero, q99=top, count=2))
  got = labels.to_physical(np.array([[1.0, 0.2], [-1.0, -1.0]]), normalizer)
  np.testing.assert_allclose(got, [[2.0, 0.6], [0.0, 0.0]], atol=1e-6)


def test_noise_samples_add_to_the_spread():
  chunks = np.zeros((2, 4, 3, 1))
  chunks[0], chunks[1] = -1.0, 3.0
  action, spread, apart = labels.aggregate(chunks, np.arange(4), 4, [X])
  np.testing.assert_allclose(action, 1.0)
  np.testing.assert_allclose(spread, 2.0)
  np.testing.assert_allclose(apart, 0)  # all windows say the same


def test_disagreement_is_the_part_of_the_spread_between_windows():
  chunks = np.random.default_rng(0).normal(size=(64, 2, 2, 1))
  chunks[:, 1] += 4
  _, spread, apart = labels.aggregate(chunks, np.arange(2), 2, [X])
  within = (chunks[:, 0, 1].var() + chunks[:, 1, 0].var()) / 2
  np.testing.assert_allclose(spread[1]**2, apart[1]**2 + within, rtol=1e-5)
  assert apart[0] == pytest.approx(0, abs=1e-6)
  assert apart[1] == pytest.approx(2, abs=0.2)


def test_what_does_not_fit_is_refused():
  with pytest.raises(errors.DataError, match="control step 2"):
    labels.aggregate(np.zeros((2, 2, 1)), np.array([0, 4]), 6, [X])
  with pytest.raises(errors.DataError, match="do not fit"):
    labels.aggregate(np.zeros((2, 2, 2)), np.arange(2), 2, [X])
  with pytest.raises(errors.ConfigError, match="gaussian"):
    labels.aggregate(np.zeros((2, 2, 1)), np.arange(2), 2, [X], "gauss")
  wrong = types.Key("yaw", 1, kind="angle")
  with pytest.raises(errors.DataError, match="'rad' or 'deg'"):
    labels.aggregate(np.zeros((2, 2, 1)), np.arange(2), 2, [wrong])
