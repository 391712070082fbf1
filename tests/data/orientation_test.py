"""Tests of ways of writing a rotation: each leads to the same matrix."""

import itertools

import numpy as np
import pytest

from dreamgen_jax import errors
from dreamgen_jax.data import orientation


def _turns():
  """Random rotations, none, half turns, and the poles of Euler angles."""
  random = np.random.default_rng(0).normal(size=(20, 3))
  halves = np.pi * np.eye(3)
  euler = np.array([[0.3, np.pi / 2, 0], [0.2, -np.pi / 2, 0.0]])
  return np.concatenate([
      orientation.to_matrix(np.concatenate([random, halves, [[0, 0, 0]]]),
                            "axis_angle"),
      orientation.to_matrix(euler, "euler_xyz"),
      orientation.to_matrix(euler, "euler_rpy")])


@pytest.mark.parametrize("old, new", list(itertools.permutations(
    orientation.DIMS, 2)))
def test_every_way_leads_to_the_same_rotation(old, new):
  matrices = _turns()
  found = orientation.convert(
      orientation.from_matrix(matrices, old), old, new)
  assert found.shape == (len(matrices), orientation.DIMS[new])
  np.testing.assert_allclose(
      orientation.to_matrix(found, new), matrices, atol=1e-7)


@pytest.mark.parametrize("name, values, wanted", [
    # A quarter turn about z takes x to y.
    ("euler_rpy", [0, 0, np.pi / 2], [[0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    # Roll first, then yaw about the fixed z: y goes to z and stays there.
    ("euler_rpy", [np.pi / 2, 0, np.pi / 2],
     [[0, 0, 1], [1, 0, 0], [0, 1, 0]]),
    # About the moving axes z has been tilted by then.
    ("euler_xyz", [np.pi / 2, 0, np.pi / 2],
     [[0, -1, 0], [0, 0, -1], [1, 0, 0]]),
    ("quaternion_wxyz", [2**-0.5, 0, 0, 2**-0.5],
     [[0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    ("quaternion_xyzw", [0, 0, -(2**-0.5), -(2**-0.5)],
     [[0, -1, 0], [1, 0, 0], [0, 0, 1]]),
])
def test_conventions(name, values, wanted):
  np.testing.assert_allclose(
      orientation.to_matrix(np.array(values, float), name), wanted, atol=1e-12)


def test_an_unknown_way_is_named():
  with pytest.raises(errors.DataError, match="Did you mean 'euler_rpy'"):
    orientation.convert(np.zeros(3), "rpy", "axis_angle")
