"""Rotation vectors and matrices are each other's inverse, everywhere."""

import numpy as np
import pytest

from dreamgen_jax import types
from dreamgen_jax.data import resample, rotation

AXIS = np.array([2.0, -1.0, 2.0]) / 3


@pytest.mark.parametrize(
    "angle", [0.0, 1e-9, 1e-4, 1.0, 3.0, np.pi - 1e-7, np.pi])
def test_there_and_back(angle):
  matrix = rotation.matrix(angle * AXIS)
  np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
  np.testing.assert_allclose(matrix @ AXIS, AXIS, atol=1e-12)
  back = rotation.vector(matrix)
  np.testing.assert_allclose(rotation.matrix(back), matrix, atol=1e-9)
  np.testing.assert_allclose(np.linalg.norm(back), angle, atol=1e-7)


def test_quarter_turns_by_hand():
  matrix = rotation.matrix([[0, 0, np.pi / 2], [np.pi / 2, 0, 0]])
  np.testing.assert_allclose(matrix @ [0, 1, 0], [[-1, 0, 0], [0, 0, 1]],
                             atol=1e-12)


def test_the_nearest_rotation_of_a_sum_is_the_mean():
  ends = rotation.matrix([0.3 * AXIS, 0.9 * AXIS])
  np.testing.assert_allclose(
      rotation.vector(rotation.nearest(ends.sum(0))), 0.6 * AXIS)
  mirror = rotation.nearest(-np.eye(3) + 0.1 * ends[0])
  assert np.linalg.det(mirror) == pytest.approx(1)


def test_minus_and_plus():
  a, b = np.random.default_rng(0).normal(size=(2, 5, 3))
  turn = rotation.minus(a, b)
  np.testing.assert_allclose(
      rotation.matrix(rotation.plus(b, turn)), rotation.matrix(a), atol=1e-12)


def test_other_rates_keep_to_the_arc():
  key = types.Key("turn", 3, unit="rad", kind="rotation")
  turns = np.arange(4)[:, None] * 2.0 * AXIS  # beyond half a turn
  found = resample.vectors(turns, [key], 5.0, 10.0)
  want = np.arange(7)[:, None] * 1.0 * AXIS
  np.testing.assert_allclose(
      rotation.matrix(found), rotation.matrix(want), atol=1e-6)
