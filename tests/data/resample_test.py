"""Tests of changing rates."""

import numpy as np
import pytest

from dreamgen_jax import errors, types
from dreamgen_jax.data import resample


@pytest.mark.parametrize("num_frames, from_hz, to_hz, expected", [
    (5, 10, 10, [0, 1, 2, 3, 4]),
    (9, 20, 10, [0, 2, 4, 6, 8]),
    (8, 20, 10, [0, 2, 4, 6]),
    (4, 5, 10, [0, 1, 1, 2, 2, 3, 3]),
    (7, 16, 10, [0, 2, 3, 5]),
    (1, 16, 10, [0]),
    (31, 30, 0.1 * 30, [0, 10, 20, 30]),
])
def test_nearest_frames(num_frames, from_hz, to_hz, expected):
  found = resample.nearest_frames(num_frames, from_hz, to_hz)
  assert found.tolist() == expected


def test_positions_are_interpolated():
  keys = (types.Key("x", 2),)
  values = np.array([[0, 1], [2, 3], [4, 9]], np.float32)
  np.testing.assert_allclose(
      resample.vectors(values, keys, 5, 10),
      [[0, 1], [1, 2], [2, 3], [3, 6], [4, 9]])
  np.testing.assert_allclose(resample.vectors(values, keys, 10, 5),
                             values[::2])


def test_angles_take_the_short_way():
  keys = (types.Key("yaw", 1, unit="deg", kind="angle"),)
  values = np.array([[170], [-170], [-150]], np.float32)
  found = resample.vectors(values, keys, 1, 2)[:, 0]
  np.testing.assert_allclose(np.abs(found[1]), 180)
  np.testing.assert_allclose(found[[0, 2, 3, 4]], [170, -170, -160, -150])
  with pytest.raises(errors.DataError, match="rad or deg"):
    resample.vectors(values, (types.Key("yaw", 1, kind="angle"),), 1, 2)


def test_binary_values_hold():
  keys = (types.Key("grip", 1, kind="binary"),)
  values = np.array([[0], [1], [0]], np.float32)
  assert resample.vectors(values, keys, 1, 3)[:, 0].tolist() == [
      0, 0, 0, 1, 1, 1, 0]


def test_displacements_keep_the_way_travelled():
  keys = (types.Key("dx", 1, absolute=False),)
  values = np.array([[1], [2], [3], [4]], np.float32)
  np.testing.assert_allclose(
      resample.vectors(values, keys, 10, 5)[:, 0], [3, 7])
  np.testing.assert_allclose(
      resample.vectors(values, keys, 10, 20)[:, 0],
      [0.5, 0.5, 1, 1, 1.5, 1.5, 2])


def test_missing_labels_stay_where_they_are():
  keys = (types.Key("x", 1),)
  values = np.array([[0], [np.nan], [2], [3]], np.float32)
  found = resample.vectors(values, keys, 1, 2)[:, 0]
  assert np.isnan(found[1:4]).all() and found[[0, 4, 6]].tolist() == [0, 2, 3]


def test_same_rate_changes_nothing(embodiment, make_episode):
  episode = make_episode(1)
  np.testing.assert_allclose(
      resample.vectors(episode.action, embodiment.action, 7, 7),
      episode.action, rtol=1e-5, atol=1e-6)


def test_to_clock(embodiment, make_episode):
  episode = make_episode(1)  # 9 frames at 5 Hz, 17 steps at 10 Hz
  found = resample.to_clock(episode, types.Clock(10.0, 5.0), embodiment)
  assert found.video["wrist"].shape == (17, 16, 16, 3)
  np.testing.assert_array_equal(found.video["front"][::2],
                                episode.video["front"])
  assert found.state.shape == (9, 3) and found.action.shape == (9, 4)
  np.testing.assert_allclose(found.action[:, :2], episode.action[::2, :2])
  np.testing.assert_allclose(
      found.action[:-1, 2],
      episode.action[:-1, 2].reshape(8, 2).sum(1), rtol=1e-5, atol=1e-6)
  assert found.clock == types.Clock(10.0, 5.0)


def test_bad_input():
  with pytest.raises(errors.DataError, match="positive"):
    resample.nearest_frames(3, 0, 10)
  with pytest.raises(errors.DataError, match="total width 2"):
    resample.vectors(np.zeros((3, 3)), (types.Key("x", 2),), 1, 2)
