"""One running table: the model, the arm, and what can be read off them."""

import mujoco
import numpy as np

from dreamgen_jax.sims.tabletop import control, robots, scenes
from dreamgen_jax.sims.tabletop import layout as layouts
from dreamgen_jax.sims.tabletop import scene as scene_builder

START = (0.43, 0.0, 0.20, 0.0)  # x, y, z, yaw of the gripper
DRAWER_OPEN = 0.10  # m, before close_drawer

# Streams of one seed, so that looks never change what happens.
_LAYOUT, _LOOKS, _START, EXPERT = range(4)


def stream(seed: int, purpose: int, verb: str = "") -> np.random.Generator:
  """A generator keyed by seed, purpose and verb."""
  return np.random.default_rng([seed, purpose, *verb.encode()])


class World:
  """A model built for (robot, verb, scene, seed) and its history.

  Attributes:
    layout: what stands where at the start.
    tip: measured float[3] between the fingertips.
    peak: name -> greatest height that a block's centre has reached.
    near: whether the gripper has been at what the verb is about.
  """

  def __init__(self, robot: str, verb: str, scene: str, seed: int,
               randomize_looks: bool = False, spread: float = 1.0):
    self.verb = verb
    body, room = robots.ROBOTS[robot], scenes.SCENES[scene]
    self.layout = layouts.sample(
        verb, stream(seed, _LAYOUT, verb), spread)
    looks = stream(seed, _LOOKS, verb)
    paint = body.paint
    if randomize_looks:
      room = scenes.vary(room, looks)
      if robot != "panda":
        paint = robots.vary(looks)
    sway = room.sway * looks.uniform(-1, 1, 3)
    self.model = mujoco.MjModel.from_xml_string(
        scene_builder.build(body, paint, room, self.layout, sway))
    self.data = mujoco.MjData(self.model)
    self.arm = control.Arm(self.model, self.data, body)
    if verb == "close_drawer":
      self.data.joint("drawer").qpos[0] = DRAWER_OPEN
    start = stream(seed, _START, verb)
    pose = START + np.append(start.uniform(-0.015, 0.015, 3), 0.0)
    self.arm.place(pose, start.uniform(-0.01, 0.01, 7))
    mujoco.mj_step(self.model, self.data, 10)  # blocks settle
    movers = ["block0", "block1"]
    movers += ["pillar"] if self.layout.fixture == "pillar" else []
    self.start = {name: self.position(name) for name in movers}
    self.start_yaw = self.yaw("block0")
    self.peak = {name: self.start[name][2] for name in movers}
    self.near = False
    self._watch()

  def step(self, action: np.ndarray) -> None:
    """Runs one control step of 0.2 s; action float[5]."""
    self.arm.step(action)
    self._watch()

  def _watch(self) -> None:
    for name in self.peak:
      self.peak[name] = max(self.peak[name], self.position(name)[2])
    distance = np.linalg.norm(self.tip - self.position(self.focus))
    self.near = bool(self.near or distance < 0.07)

  # ------------------------------------------------------------------ readings

  @property
  def tip(self) -> np.ndarray:
    return self.arm.pose()[:3]

  @property
  def state(self) -> np.ndarray:
    """float32[5]: x, y, z in metres, yaw in radians, opening in [0, 1]."""
    return np.append(self.arm.pose(), self.arm.opening()).astype(np.float32)

  @property
  def released(self) -> bool:
    return self.arm.target[4] < 0.5

  @property
  def focus(self) -> str:
    """Name of the body that the verb is about."""
    return self.layout.fixture or "block0"

  def position(self, name: str) -> np.ndarray:
    """Centre of a body, float[3] in metres."""
    return self.data.body(name).xpos.copy()

  def yaw(self, name: str) -> float:
    matrix = self.data.body(name).xmat
    return float(np.arctan2(matrix[3], matrix[0]))

  def upright(self, name: str) -> float:
    """Cosine of the tilt of a body's z axis."""
    return float(self.data.body(name).xmat[8])

  def joint(self, name: str) -> float:
    """Value of a fixture's joint, in metres or radians."""
    return float(self.data.joint(name).qpos[0])

  def moved(self, name: str = "block0") -> np.ndarray:
    """Displacement since the start, float[3] in metres."""
    return self.position(name) - self.start[name]

  def lifted(self, name: str = "block0") -> float:
    """Greatest rise of a block's centre since the start, in metres."""
    return self.peak[name] - self.start[name][2]

  def in_bin(self, index: int, name: str = "block0") -> bool:
    """Whether a block's centre is within a bin's walls, low down."""
    x, y, z = self.position(name)
    thing = self.layout.bins[index]
    reach = layouts.BIN_HALF - 0.015
    return (abs(x - thing.x) < reach and abs(y - thing.y) < reach
            and z < layouts.HALF + 0.03)

  def touching(self, name: str = "block0") -> bool:
    """Whether a finger's pad is in contact with a block."""
    geom = self.model.geom
    pads = {geom("finger_left").id, geom("finger_right").id}
    block = geom(name).id
    return any(
        block in pair and pads & set(pair)
        for pair in self.data.contact.geom.tolist()
    )
