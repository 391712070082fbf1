"""Builds the MJCF text of one room with its robot, things and cameras."""

import numpy as np

from dreamgen_jax.sims.tabletop import layout as layouts
from dreamgen_jax.sims.tabletop import robots, scenes

CAMERA = (1.06, -0.54, 0.62)
LOOK_AT = (0.44, 0.0, 0.085)
FIELD_OF_VIEW = 36
LEFT_CAMERA = (0.62, 0.90, 0.55)
OFFSCREEN = 512  # pixels; bounds image_size * supersample
TIMESTEP = 0.005


def _text(values) -> str:
  return " ".join(f"{value:.5g}" for value in np.ravel(values))


def _rgba(colour) -> str:
  return f'rgba="{_text(colour)} 1"'


def _box(position, half, colour, kind="still", extra="") -> str:
  return (f'<geom class="{kind}" type="box" pos="{_text(position)}" '
          f'size="{_text(half)}" {_rgba(colour)} {extra}/>')


def _cylinder(position, radius, half, colour) -> str:
  return (f'<geom class="still" type="cylinder" pos="{_text(position)}" '
          f'size="{radius} {half}" {_rgba(colour)}/>')


def _camera(name, position, target) -> str:
  """A camera at `position` that looks at `target`, upright."""
  forward = np.subtract(target, position)
  right = np.cross(forward, (0, 0, 1))
  right /= np.linalg.norm(right)
  up = np.cross(right, forward / np.linalg.norm(forward))
  return (f'<camera name="{name}" pos="{_text(position)}" '
          f'xyaxes="{_text(right)} {_text(up)}" fovy="{FIELD_OF_VIEW}"/>')


def _block(index: int, block: layouts.Block) -> str:
  half = layouts.HALF
  quat = (np.cos(block.yaw / 2), 0, 0, np.sin(block.yaw / 2))
  return (
      f'<body name="block{index}" pos="{_text((block.x, block.y, block.z))}" '
      f'quat="{_text(quat)}"><freejoint/>'
      + _box((0, 0, 0), (half, half, half), scenes.COLOURS[block.colour],
             "thing", f'name="block{index}"') + "</body>"
  )


def _bin(thing: layouts.Bin) -> str:
  half, thick = layouts.BIN_HALF, 0.005
  colour = scenes.COLOURS[thing.colour]
  rise = layouts.BIN_HEIGHT / 2
  walls = [
      _box((x, y, rise), (thick if x else half, thick if y else half, rise),
           colour)
      for x, y in ((half, 0), (-half, 0), (0, half), (0, -half))
  ]
  floor = _box((0, 0, 0.003), (half, half, 0.003), colour)
  return (f'<body pos="{thing.x:.5g} {thing.y:.5g} 0">{floor}'
          f'{"".join(walls)}</body>')


def _moving(name, position, kind, axis, limits, shapes, extra="") -> str:
  """A part of a fixture on one joint."""
  return (
      f'<body name="{name}" pos="{_text(position)}" gravcomp="1">'
      '<inertial mass=".2" pos="0 0 0" diaginertia="4e-4 4e-4 4e-4"/>'
      f'<joint name="{name}" type="{kind}" axis="{_text(axis)}" '
      f'range="{_text(limits)}" {extra}/>{"".join(shapes)}</body>'
  )


def _drawer() -> str:
  """A cabinet whose drawer opens along -y, with a bar to hook behind."""
  wood, front, bar = (0.45, 0.30, 0.18), (0.80, 0.62, 0.40), (0.12, 0.12, 0.14)
  shell = [
      _box((0, 0, 0.004), (0.085, 0.085, 0.004), wood),
      _box((0, 0, 0.101), (0.085, 0.085, 0.004), wood),
      _box((0.081, 0, 0.05), (0.004, 0.085, 0.05), wood),
      _box((-0.081, 0, 0.05), (0.004, 0.085, 0.05), wood),
      _box((0, 0.081, 0.05), (0.085, 0.004, 0.05), wood),
  ]
  drawer = [
      _box((0, -0.086, 0), (0.074, 0.006, 0.040), front),
      _box((0, -0.01, -0.036), (0.070, 0.075, 0.003), front),
      _box((0.072, -0.01, -0.01), (0.003, 0.075, 0.028), front),
      _box((-0.072, -0.01, -0.01), (0.003, 0.075, 0.028), front),
      _box((0, -layouts.HANDLE, 0), (0.050, 0.009, 0.012), bar),
      _box((0.045, -0.12, 0), (0.007, 0.030, 0.008), bar),
      _box((-0.045, -0.12, 0), (0.007, 0.030, 0.008), bar),
  ]
  return "".join(shell) + _moving(
      "drawer", (0, 0, 0.052), "slide", (0, -1, 0),
      (0, layouts.DRAWER_TRAVEL), drawer, 'damping="4" frictionloss=".6"')


def _button() -> str:
  return _box((0, 0, 0.02), (0.048, 0.048, 0.02), (0.30, 0.30, 0.33)) + _moving(
      "button", (0, 0, 0.055), "slide", (0, 0, -1), (0, 0.022),
      [_cylinder((0, 0, 0), 0.032, 0.014, (0.93, 0.08, 0.08))],
      'stiffness="60" damping="3"')


def _lever() -> str:
  reach, yellow = layouts.LEVER_REACH, (0.97, 0.80, 0.08)
  arm = [
      _box((-reach / 2, 0, 0), (reach / 2, 0.012, 0.014), yellow),
      _cylinder((0, 0, 0), 0.02, 0.022, yellow),
  ]
  return _cylinder((0, 0, 0.015), 0.05, 0.015, (0.25, 0.25, 0.30)) + _moving(
      "lever", (0, 0, 0.05), "hinge", (0, 0, 1), (0, 1.7), arm,
      'damping=".06" frictionloss=".03"')


def _fixture(layout: layouts.Layout) -> str:
  if not layout.fixture:
    return ""
  x, y = layout.fixture_xy
  if layout.fixture == "pillar":
    half = layouts.PILLAR_HALF
    return (f'<body name="pillar" pos="{x:.5g} {y:.5g} {half[2]}"><freejoint/>'
            + _box((0, 0, 0), half, scenes.COLOURS["pink"], "thing")
            + "</body>")
  shapes = {"drawer": _drawer, "button": _button, "lever": _lever}
  return (f'<body pos="{x:.5g} {y:.5g} 0">{shapes[layout.fixture]()}</body>')


def _room(scene: scenes.Scene) -> tuple[str, str]:
  """(assets, geoms): a large table, two walls and a floor."""
  assets, surface = "", _rgba(scene.table)
  if scene.checker:
    assets = (
        '<texture name="checker" type="2d" builtin="checker" width="32" '
        f'height="32" rgb1="{_text(scene.table)}" '
        f'rgb2="{_text(scene.checker)}"/>'
        '<material name="checker" texture="checker" texrepeat="9 9"/>')
    surface = 'material="checker"'
  table = (f'<geom class="still" type="box" pos=".4 0 -.02" '
           f'size=".75 .85 .02" {surface}/>')
  walls = (
      '<geom class="look" type="plane" size="4 4 1" pos="-.36 0 0" '
      f'zaxis="1 0 0" {_rgba(scene.wall)}/>'
      '<geom class="look" type="plane" size="4 4 1" pos="0 .86 0" '
      f'zaxis="0 -1 0" {_rgba(np.multiply(scene.wall, 0.93))}/>')
  floor = (f'<geom class="look" type="plane" size="4 4 1" pos="0 0 -.4" '
           f'{_rgba(scene.floor)}/>')
  light = (f'<light directional="true" pos="0 0 2" castshadow="false" '
           f'dir="{_text(scene.light_direction)}" '
           f'diffuse="{_text(scene.light)}" specular="0 0 0"/>')
  return assets, table + walls + floor + light


def _defaults() -> str:
  """Contact bits: robot 1, things 2, still parts none; things take both."""
  return (
      '<default class="hinge"><joint armature=".6"/></default>'
      '<default class="rail"><joint type="slide" armature="3"/></default>'
      '<default class="finger"><joint type="slide" axis="0 1 0" '
      f'range="0 {robots.OPENING}" armature=".05" damping="6"/></default>'
      '<default class="look"><geom contype="0" conaffinity="0" density="0" '
      'group="1"/></default>'
      '<default class="grip"><geom contype="1" conaffinity="0" condim="4" '
      'friction="1.2 .05 .001" solref=".01 1" density="0"/></default>'
      '<default class="thing"><geom contype="2" conaffinity="3" condim="4" '
      'friction=".9 .02 .001" solref=".01 1" density="300"/></default>'
      # Priority lets low friction rule, so that pushed blocks slide.
      '<default class="still"><geom contype="0" conaffinity="3" condim="3" '
      'priority="1" friction=".45 .01 .001" density="0"/></default>'
  )


def _actuators(robot: robots.Robot) -> str:
  arm = "".join(
      f'<position name="{joint}" joint="{joint}" dampratio="1" '
      + ('kp="12000" forcerange="-600 600"/>' if joint in robot.slides
         else 'kp="2400" forcerange="-400 400"/>')
      for joint in robot.joints
  )
  return arm + (
      '<position name="grip" joint="finger_left" kp="1200" kv="40" '
      f'ctrlrange="0 {robots.OPENING}" forcerange="-30 30"/>')


def build(robot: robots.Robot, paint: robots.Paint, scene: scenes.Scene,
          layout: layouts.Layout, sway: np.ndarray) -> str:
  """MJCF text; `sway` float[3] moves the front camera, in metres."""
  assets, room = _room(scene)
  blocks = "".join(_block(i, block) for i, block in enumerate(layout.blocks))
  bins = "".join(_bin(thing) for thing in layout.bins)
  cameras = _camera("front", np.add(CAMERA, sway), LOOK_AT) + _camera(
      "left", LEFT_CAMERA, LOOK_AT)
  return (
      '<mujoco model="tabletop"><compiler angle="radian" autolimits="true"/>'
      f'<option timestep="{TIMESTEP}" integrator="implicitfast" '
      'cone="elliptic" impratio="10"/>'
      '<size memory="4M"/>'
      f'<visual><global offwidth="{OFFSCREEN}" offheight="{OFFSCREEN}"/>'
      '<quality shadowsize="0" offsamples="0" numslices="12" numstacks="6" '
      'numquads="1"/><map znear=".02" zfar="20"/>'
      f'<headlight ambient="{_text(scene.ambient)}" diffuse=".2 .2 .2" '
      'specular="0 0 0"/></visual>'
      f'<asset>{assets}</asset><default>{_defaults()}</default>'
      f'<worldbody>{room}{cameras}{robot.build(paint)}{bins}{blocks}'
      f"{_fixture(layout)}</worldbody>"
      '<equality><joint joint1="finger_left" joint2="finger_right"/></equality>'
      f'<actuator>{_actuators(robot)}</actuator></mujoco>'
  )
