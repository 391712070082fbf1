"""Tests that hold for every embodiment, and for CONTRIBUTING's example."""

import pathlib
import re

import pytest

from dreamgen_jax import registry
from dreamgen_jax.data import orientation
from dreamgen_jax.embodiments import gr1

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Of GR00T-Dreams' released labelers and policies.
RELEASED = {"gr1": 24, "gr1_arms": 24, "gr1_arms_waist": 24, "franka": 17,
            "so100": 26, "panda_omron": 13}
WIDTHS = {"gr1": (44, 44), "gr1_arms": (26, 26), "gr1_arms_waist": (29, 29),
          "franka": (10, 7), "so100": (6, 6), "panda_omron": (16, 12),
          "widowx": (7, 7), "tabletop_panda": (5, 5)}


def check(robot):
  assert isinstance(robot.id, int) and 0 <= robot.id < 32
  assert "{instruction}" in robot.template and robot.cameras
  assert set(robot.cameras.values()) <= {
      "front", "wrist", "left", "right", "ego"}
  for keys in (robot.state, robot.action):
    assert len({key.name for key in keys}) == len(keys)
    for key in keys:
      assert key.kind in ("position", "angle", "rotation", "binary")
      assert key.normalize in ("min_max", "q99", "mean_std", "identity")
      assert key.unit in ("m", "rad", "deg", "1")
      assert key.gripper in ("", "open", "closed")
      assert not key.rotation or orientation.DIMS[key.rotation] == key.dims
      if key.kind == "rotation":
        assert (key.dims, key.unit) == (3, "rad")
        assert key.rotation == "axis_angle"


@pytest.mark.parametrize("name", registry.names("embodiments"))
def test_contract(name):
  robot = registry.find("embodiments", name).EMBODIMENT
  check(robot)
  assert robot.name == name
  assert robot.id == RELEASED.get(name, robot.id)
  if name in WIDTHS:
    assert (robot.state_dim, robot.action_dim) == WIDTHS[name]


def test_parts_of_the_gr1_are_parts_of_the_gr1():
  order = {key.name: key for key in gr1.EMBODIMENT.action}
  for name in ("gr1_arms", "gr1_arms_waist"):
    robot = registry.find("embodiments", name).EMBODIMENT
    assert robot.action == tuple(order[key.name] for key in robot.action)
    assert robot.clock == gr1.EMBODIMENT.clock


def test_the_example_of_contributing_is_an_embodiment():
  text = (ROOT / "CONTRIBUTING.md").read_text()
  name, code = re.search(
      r"`dreamgen_jax/embodiments/(\w+)\.py` is the whole change:\n\n"
      r"```python\n(.*?)```", text, re.DOTALL).groups()
  assert code.count("\n") < 40
  made = {}
  exec(compile(code, name, "exec"), made)
  check(made["EMBODIMENT"])
  assert made["EMBODIMENT"].name == name and made["__doc__"]
  assert name not in registry.names("embodiments")
