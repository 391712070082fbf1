"""Tests of conversions that look at a whole episode."""

import numpy as np
import pytest

from dreamgen_jax import errors, types
from dreamgen_jax.data import columns, layout, orientation

CLOSE = types.Key("close", 1, kind="binary", gripper="closed")


def convert(key, values, **says):
  return columns.convert(layout.Column("x", **says), key, np.array(values))


@pytest.mark.parametrize("values, wanted", [
    # Half open becomes what it comes to; 1 of the recording is open.
    ([1, 1, 0.6, 0.3, 0, 0, 0.4, 1], [0, 0, 1, 1, 1, 1, 0, 0]),
    ([0, 0, 0.4, 0.6], [1, 1, 0, 0]),  # it never settles: its own side
])
def test_grippers_settle(values, wanted):
  found = convert(CLOSE, np.array(values)[:, None], gripper="open",
                  over_time="settle")
  assert found[:, 0].tolist() == wanted


@pytest.mark.parametrize("gripper, values, wanted", [
    ("closed", [0, 0, 1, 0, -1, 0], [0, 0, 1, 1, 0, 0]),
    ("open", [0, 0.05, -0.9, 0], [0, 0, 1, 1]),
    ("closed", [0, -1, 0, 1], [1, 0, 0, 1]),
    ("closed", [0, 0], [0, 0]), ("open", [0, 0], [0, 0]),  # open throughout
])
def test_relative_commands_become_states(gripper, values, wanted):
  found = convert(CLOSE, np.array(values, float)[:, None], gripper=gripper,
                  over_time="command")
  assert found[:, 0].tolist() == wanted


def test_the_next_step_and_differences():
  joint = types.Key("joint", 1, unit="deg")
  turns = [[3.0], [np.pi], [-3.0]]
  found = convert(joint, turns, unit="rad", over_time="next")
  np.testing.assert_allclose(found[:2, 0], [180, np.degrees(-3)])
  found = convert(joint, turns, unit="rad", over_time="difference")
  np.testing.assert_allclose(  # the short way round
      found[:2, 0], np.degrees([np.pi - 3] * 2), rtol=1e-9)
  assert np.isnan(found[2]).all()


def test_differences_of_rotations_are_rotations():
  key = types.Key("turn", 3, unit="rad", kind="rotation",
                  rotation="axis_angle")
  euler = np.array([[0.1, 0.2, 3.1], [0.1, 0.5, -3.1], [0.4, 0.2, -3.0]])
  found = convert(key, euler, rotation="euler_rpy", over_time="difference")
  at = orientation.to_matrix(euler, "euler_rpy")
  for i in range(2):
    np.testing.assert_allclose(
        orientation.to_matrix(found[i], "axis_angle") @ at[i], at[i + 1],
        atol=1e-9)
  assert np.isnan(found[2]).all()


def test_what_is_not_finite_is_named():
  with pytest.raises(errors.DataError, match="'x' is not finite in step 1"):
    convert(CLOSE, [[0.0], [np.inf]])
