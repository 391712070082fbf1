"""Five robots as data: what to draw, which joints to move, where to begin.

Every robot is a chain of primitive shapes that ends in a body "hand", whose z
axis is the approach direction and whose y axis is the closing direction, with
two fingers on slides and a site "tip" between the fingertips. Only the hand
and the fingers collide. The base frame is the world frame: table top at z = 0,
x away from the robot, y to its left.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

OPENING = 0.042  # m that each finger travels


@dataclasses.dataclass(frozen=True)
class Paint:
  """RGB triples of a robot's parts, and a factor on its link radii."""

  main: tuple[float, float, float]
  dark: tuple[float, float, float]
  tip: tuple[float, float, float]
  girth: float = 1.0


@dataclasses.dataclass(frozen=True)
class Workspace:
  """Bounds of the target; lengths in metres, yaw in radians."""

  low: tuple[float, float, float] = (0.28, -0.36, 0.018)
  high: tuple[float, float, float] = (0.68, 0.36, 0.34)
  yaw: float = 1.5


@dataclasses.dataclass(frozen=True)
class Robot:
  """A robot.

  Attributes:
    build: paint -> MJCF of its bodies.
    joints: names of the arm's joints, from the base outwards.
    home: joint values near the start pose, which inverse kinematics refines.
    paint: its own colours.
    slides: which of the joints slide; the others are hinges.
    damping: of the least squares in inverse kinematics.
    workspace: where its target may be.
  """

  build: Callable[[Paint], str]
  joints: tuple[str, ...]
  home: tuple[float, ...]
  paint: Paint
  slides: tuple[str, ...] = ()
  damping: float = 1e-3
  workspace: Workspace = Workspace()


# ------------------------------------------------------------------ MJCF parts


def _numbers(values) -> str:
  return " ".join(f"{value:.5g}" for value in np.ravel(values))


def _rgba(colour) -> str:
  return f'rgba="{_numbers(colour)} 1"'


def _capsule(start, end, radius, colour) -> str:
  return (f'<geom class="look" type="capsule" size="{radius:.4g}" '
          f'fromto="{_numbers(start)} {_numbers(end)}" {_rgba(colour)}/>')


def _cylinder(start, end, radius, colour) -> str:
  return (f'<geom class="look" type="cylinder" size="{radius:.4g}" '
          f'fromto="{_numbers(start)} {_numbers(end)}" {_rgba(colour)}/>')


def _box(position, size, colour) -> str:
  return (f'<geom class="look" type="box" pos="{_numbers(position)}" '
          f'size="{_numbers(size)}" {_rgba(colour)}/>')


def _link(name, position, axis, limits, shapes, child, quat=(1, 0, 0, 0),
          slide=False, mass=1.0) -> str:
  """A body that moves by one joint of its own name."""
  kind = "rail" if slide else "hinge"
  return (
      f'<body name="{name}" pos="{_numbers(position)}" '
      f'quat="{_numbers(quat)}" gravcomp="1">'
      f'<inertial mass="{mass}" pos="0 0 0" diaginertia=".01 .01 .01"/>'
      f'<joint name="{name}" class="{kind}" axis="{_numbers(axis)}" '
      f'range="{_numbers(limits)}"/>{"".join(shapes)}{child}</body>'
  )


def _hand(paint, position, quat, palm, length, width, mount="") -> str:
  """The gripper: `palm` half sizes, fingers of `length`, `width` half.

  `mount` is MJCF of what else it carries; it touches nothing.
  """
  finger_base = 2 * palm[2] - 0.002
  tip = finger_base + length - 0.014

  def finger(name, turn):
    pad = 0.014
    stem = (length - 2 * pad) / 2
    return (
        f'<body name="{name}" pos="0 0 {finger_base:.5g}" quat="{turn}" '
        'gravcomp="1"><inertial mass=".05" pos="0 0 .02" '
        'diaginertia="1e-5 1e-5 1e-5"/>'
        f'<joint name="{name}" class="finger"/>'
        f'<geom class="grip" type="box" size="{width} .006 {stem:.4g}" '
        f'pos="0 .0065 {stem:.4g}" {_rgba(paint.dark)}/>'
        f'<geom name="{name}" class="grip" type="box" '
        f'size="{width + 0.001} .0065 {pad}" '
        f'pos="0 .0065 {length - pad:.4g}" {_rgba(paint.tip)}/></body>'
    )

  return (
      f'<body name="hand" pos="{_numbers(position)}" quat="{_numbers(quat)}" '
      'gravcomp="1"><inertial mass=".4" pos="0 0 .03" '
      'diaginertia=".002 .002 .001"/>'
      f'<geom class="grip" type="box" size="{_numbers(palm)}" '
      f'pos="0 0 {palm[2]}" {_rgba(paint.main)}/>'
      f'<site name="tip" pos="0 0 {tip:.5g}" size=".004" rgba="0 0 0 0"/>'
      '<camera name="wrist" pos=".075 0 -.01" xyaxes="0 1 0 .9 0 .25" '
      'fovy="72"/>'
      + mount + finger("finger_left", "1 0 0 0")
      + finger("finger_right", "0 0 0 1")
      + "</body>"
  )


# ---------------------------------------------------------------------- robots


def _panda(paint: Paint) -> str:
  """Link frames of the Franka Panda's published kinematics."""
  g, main, dark = paint.girth, paint.main, paint.dark
  back, forth = (1, -1, 0, 0), (1, 1, 0, 0)
  turn = (np.cos(np.pi / 8), 0, 0, -np.sin(np.pi / 8))
  # The body of the wrist camera shows which way the hand has turned.
  chain = _hand(paint, (0, 0, 0.107), turn, (0.022, 0.066, 0.03), 0.058,
                0.0115, _box((0.085, 0, -0.032), (0.05, 0.022, 0.021),
                             (0.75, 0.15, 0.75)))
  chain = _link(
      "panda7", (0.088, 0, 0), (0, 0, 1), (-2.89, 2.89),
      [_cylinder((0, 0, 0), (0, 0, 0.105), 0.036 * g, dark)],
      chain, forth, mass=0.5)
  chain = _link(
      "panda6", (0, 0, 0), (0, 0, 1), (-0.01, 3.75),
      [_capsule((0, 0, -0.02), (0.088, 0, 0), 0.044 * g, main)],
      chain, forth)
  chain = _link(
      "panda5", (-0.0825, 0.384, 0), (0, 0, 1), (-2.89, 2.89),
      [_capsule((0, 0, -0.30), (0, 0, -0.05), 0.047 * g, main)],
      chain, back)
  chain = _link(
      "panda4", (0.0825, 0, 0), (0, 0, 1), (-3.07, -0.07),
      [_cylinder((0, 0, -0.06), (0, 0, 0.06), 0.060 * g, dark),
       _capsule((0, 0, 0), (-0.08, 0.08, 0), 0.054 * g, main)],
      chain, forth)
  chain = _link(
      "panda3", (0, -0.316, 0), (0, 0, 1), (-2.89, 2.89),
      [_capsule((0, 0, -0.12), (0, 0, -0.02), 0.056 * g, main)],
      chain, forth)
  chain = _link(
      "panda2", (0, 0, 0), (0, 0, 1), (-1.76, 1.76),
      [_cylinder((0, 0, -0.065), (0, 0, 0.065), 0.066 * g, dark),
       _capsule((0, 0, 0), (0, -0.20, 0), 0.058 * g, main)],
      chain, back)
  chain = _link(
      "panda1", (0, 0, 0.333), (0, 0, 1), (-2.89, 2.89),
      [_capsule((0, 0, -0.19), (0, 0, -0.03), 0.062 * g, main)], chain)
  return _cylinder((0, 0, 0), (0, 0, 0.14), 0.085 * g, main) + chain


def _so100(paint: Paint) -> str:
  """Pan, lift, elbow, flex, roll; links about three times the SO-100's."""
  g, main, dark = paint.girth, paint.main, paint.dark
  chain = _hand(paint, (0, 0, 0.07), (0, 0, 0, 1), (0.03, 0.055, 0.022),
                0.068, 0.013)
  chain = _link(
      "roll", (0, 0, 0.03), (0, 0, 1), (-3.3, 3.3),
      [_box((0, 0, 0.045), (0.028 * g, 0.034 * g, 0.028), dark)], chain,
      mass=0.3)
  chain = _link(
      "flex", (0, 0, 0.36), (0, 1, 0), (-1.2, 2.9),
      [_box((0, 0, 0.01), (0.026 * g, 0.036 * g, 0.036), main)], chain,
      mass=0.4)
  chain = _link(
      "elbow", (0, 0, 0.38), (0, 1, 0), (0.0, 2.95),
      [_cylinder((0, -0.045, 0), (0, 0.045, 0), 0.044 * g, dark),
       _box((0, 0, 0.18), (0.020 * g, 0.030 * g, 0.17), main)], chain)
  chain = _link(
      "lift", (0, 0, 0.14), (0, 1, 0), (-1.8, 1.9),
      [_cylinder((0, -0.055, 0), (0, 0.055, 0), 0.050 * g, dark),
       _box((0, 0, 0.19), (0.024 * g, 0.034 * g, 0.18), main)], chain)
  chain = _link(
      "pan", (0.02, 0, 0), (0, 0, 1), (-2.0, 2.0),
      [_cylinder((0, 0, 0.06), (0, 0, 0.12), 0.060 * g, main)], chain)
  return _box((0.02, 0, 0.03), (0.085 * g, 0.075 * g, 0.03), dark) + chain


def _gantry(paint: Paint) -> str:
  """Slides along x, y and z above the table, then yaw."""
  g, main, dark = paint.girth, paint.main, paint.dark
  chain = _hand(paint, (0, 0, -0.02), (0, 1, 0, 0), (0.03, 0.06, 0.02),
                0.07, 0.012)
  chain = _link(
      "yaw", (0, 0, -0.02), (0, 0, 1), (-1.8, 1.8),
      [_cylinder((0, 0, -0.02), (0, 0, 0.03), 0.042 * g, dark)], chain,
      mass=0.4)
  chain = _link(
      "z", (0, 0, 0), (0, 0, 1), (-0.45, 0.2),
      [_box((0, 0, 0.34), (0.026 * g, 0.026 * g, 0.34), main)], chain,
      slide=True)
  chain = _link(
      "y", (0, 0, 0), (0, 1, 0), (-0.5, 0.5),
      [_box((0, 0, 0.16), (0.06 * g, 0.06 * g, 0.05), dark)], chain,
      slide=True)
  chain = _link(
      "x", (0.45, 0, 0.5), (1, 0, 0), (-0.4, 0.4),
      [_box((-0.07, 0, 0.16), (0.018, 0.60, 0.025 * g), main)], chain,
      slide=True)
  legs = [
      _box((x, y, 0.33), (0.02 * g, 0.02 * g, 0.33), main)
      for x in (-0.05,) for y in (-0.60, 0.60)
  ]
  return "".join(legs) + chain


def _scara(paint: Paint) -> str:
  """Two hinges about upright axes, a quill, and yaw."""
  g, main, dark = paint.girth, paint.main, paint.dark
  chain = _hand(paint, (0, 0, -0.02), (0, 1, 0, 0), (0.026, 0.05, 0.018),
                0.07, 0.011)
  chain = _link(
      "spin", (0, 0, -0.02), (0, 0, 1), (-6.0, 6.0),
      [_cylinder((0, 0, -0.02), (0, 0, 0.03), 0.036 * g, main)], chain,
      mass=0.4)
  chain = _link(
      "quill", (0.38, 0, 0), (0, 0, 1), (-0.45, 0.15),
      [_cylinder((0, 0, 0), (0, 0, 0.50), 0.020 * g, dark)], chain,
      slide=True)
  chain = _link(
      "outer", (0.40, 0, 0), (0, 0, 1), (-2.8, 2.8),
      [_capsule((0, 0, 0.09), (0.38, 0, 0.09), 0.045 * g, main),
       _cylinder((0.38, 0, 0.03), (0.38, 0, 0.15), 0.050 * g, dark)], chain)
  chain = _link(
      "inner", (0, 0, 0.42), (0, 0, 1), (-2.8, 2.8),
      [_capsule((0, 0, 0), (0.40, 0, 0), 0.055 * g, main),
       _cylinder((0.40, 0, -0.04), (0.40, 0, 0.09), 0.050 * g, dark)], chain)
  return _cylinder((0, 0, 0), (0, 0, 0.37), 0.075 * g, dark) + chain


def _ur(paint: Paint) -> str:
  """Six joints with the lateral offsets of a UR5e."""
  g, main, dark = paint.girth, paint.main, paint.dark
  over = (1, 0, 1, 0)
  chain = _hand(paint, (0, 0.10, 0), (-1, 1, 0, 0), (0.026, 0.06, 0.022),
                0.066, 0.012)
  chain = _link(
      "wrist3", (0, 0, 0.10), (0, 1, 0), (-6.2, 6.2),
      [_cylinder((0, 0.03, 0), (0, 0.10, 0), 0.036 * g, dark)], chain,
      mass=0.4)
  chain = _link(
      "wrist2", (0, 0.127, 0), (0, 0, 1), (-6.2, 6.2),
      [_capsule((0, 0, 0), (0, 0, 0.10), 0.040 * g, main)], chain, mass=0.6)
  chain = _link(
      "wrist1", (0, 0, 0.392), (0, 1, 0), (-6.2, 6.2),
      [_capsule((0, 0, 0), (0, 0.127, 0), 0.042 * g, dark)], chain, over,
      mass=0.8)
  chain = _link(
      "forearm", (0, -0.131, 0.425), (0, 1, 0), (-3.1, 3.1),
      [_capsule((0, 0, 0), (0, 0, 0.38), 0.044 * g, main)], chain)
  chain = _link(
      "upper", (0, 0.138, 0), (0, 1, 0), (-6.2, 6.2),
      [_cylinder((0, -0.06, 0), (0, 0.06, 0), 0.058 * g, dark),
       _capsule((0, 0, 0), (0, 0, 0.425), 0.052 * g, main),
       _cylinder((0, -0.16, 0.425), (0, 0.05, 0.425), 0.050 * g, dark)],
      chain, over)
  chain = _link(
      "shoulder", (0, 0, 0.163), (0, 0, 1), (-6.2, 6.2),
      [_cylinder((0, 0, -0.06), (0, 0, 0.06), 0.060 * g, main)], chain)
  return _cylinder((0, 0, 0), (0, 0, 0.11), 0.075 * g, dark) + chain


ROBOTS = {
    "panda": Robot(
        _panda, tuple(f"panda{i}" for i in range(1, 8)),
        (0.0, -0.2, 0.0, -2.35, 0.0, 2.15, 0.785),
        Paint((0.92, 0.92, 0.90), (0.22, 0.23, 0.25), (1.0, 0.45, 0.05))),
    "so100": Robot(
        _so100, ("pan", "lift", "elbow", "flex", "roll"),
        (0.0, -0.1, 1.7, 1.5, 0.0),
        Paint((0.95, 0.72, 0.15), (0.14, 0.14, 0.16), (0.85, 0.15, 0.60))),
    "gantry": Robot(
        _gantry, ("x", "y", "z", "yaw"), (0.0, 0.0, -0.15, 0.0),
        Paint((0.25, 0.40, 0.75), (0.55, 0.57, 0.60), (0.95, 0.90, 0.20)),
        slides=("x", "y", "z")),
    "scara": Robot(
        _scara, ("inner", "outer", "quill", "spin"), (-0.95, 1.9, -0.1, -0.95),
        Paint((0.35, 0.62, 0.45), (0.30, 0.30, 0.34), (0.95, 0.30, 0.25)),
        slides=("quill",)),
    "ur": Robot(
        _ur, ("shoulder", "upper", "forearm", "wrist1", "wrist2", "wrist3"),
        (-0.3, -1.4, 1.9, -2.07, -1.57, -0.3),
        Paint((0.62, 0.68, 0.74), (0.20, 0.32, 0.48), (0.25, 0.85, 0.35))),
}


def vary(rng: np.random.Generator) -> Paint:
  """Random colours and link radii, for corpus diversity."""
  draw = [tuple(rng.uniform(0.08, 0.95, 3).tolist()) for _ in range(3)]
  return Paint(*draw, girth=float(rng.uniform(0.8, 1.25)))
