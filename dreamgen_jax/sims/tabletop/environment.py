"""The tabletop as a Gymnasium environment."""

import string
from typing import ClassVar

import gymnasium
import numpy as np

from dreamgen_jax import errors, registry
from dreamgen_jax.sims.tabletop import render, robots, scenes, tasks
from dreamgen_jax.sims.tabletop import scene as scene_builder
from dreamgen_jax.sims.tabletop import world as worlds

CAMERAS = ("front", "wrist", "left")
HOLD = 2  # steps that the goal state must last

_CHARSET = string.ascii_lowercase + string.digits + " ,.'-"


def _known(what: str, name: str, have) -> None:
  if name not in have:
    raise errors.ConfigError(
        f"Unknown tabletop {what} {name!r}; have: {', '.join(have)}."
        + registry.nearest(name, list(have)))


class TabletopEnv(gymnasium.Env):
  """One robot, one verb, one room; 5 control steps a second.

  Action: float32[5] [x, y, z, yaw, close]: an absolute target of the point
  between the fingertips in the robot's base frame (metres; the gripper points
  down), the gripper's yaw (radians; 0: fingers open along y), and 1 to close
  or 0 to open (threshold 0.5). The target is clipped to the workspace, and to
  0.12 m and 0.9 rad from the one before.

  Observation: `image_<camera>` uint8[h, w, 3] upright RGB; `state` float32[5]
  [x, y, z, yaw, opening] as measured; `language`, the instruction. `info` has
  success and is_success (goal state held for two steps, ending now), progress
  in [0, 1] and language. The reward is 1.0 while success holds.

  Args:
    robot: a key of `robots.ROBOTS`.
    verb: a key of `tasks.TASKS`.
    scene: a key of `scenes.SCENES`.
    image_size: pixels of each side of the images.
    cameras: of "front", "wrist", "left"; empty skips rendering.
    horizon: steps until truncation.
    supersample: images are drawn this many times larger, then averaged.
    randomize_looks: random room colours and light and, for robots other than
      the Panda, paint and link radii. The layout does not change.
    spread: share of the ranges in which what is handled is placed.
    terminate_on_success: whether held success ends the episode.
    render_mode: "rgb_array" or None.

  Raises:
    ConfigError: unknown robot, verb, scene or camera, or too large an image.
  """

  metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 5}

  def __init__(
      self,
      robot: str = "panda",
      verb: str = "pick_place",
      scene: str = "wood",
      *,
      image_size: int = 64,
      cameras: tuple[str, ...] = ("front",),
      horizon: int = 40,
      supersample: int = 2,
      randomize_looks: bool = False,
      spread: float = 1.0,
      terminate_on_success: bool = True,
      render_mode: str | None = "rgb_array",
  ):
    _known("robot", robot, robots.ROBOTS)
    _known("verb", verb, tasks.TASKS)
    _known("scene", scene, scenes.SCENES)
    for camera in cameras:
      _known("camera", camera, CAMERAS)
    if not 0 < image_size * supersample <= scene_builder.OFFSCREEN:
      raise errors.ConfigError(
          f"image_size * supersample is {image_size * supersample}; it must be "
          f"1 to {scene_builder.OFFSCREEN}.")
    self.robot, self.verb, self.scene = robot, verb, scene
    self.task = tasks.TASKS[verb]
    self.world: worlds.World | None = None
    self.render_mode = render_mode
    self.cameras = tuple(cameras)
    self._size, self._supersample = image_size, supersample
    self._horizon = horizon
    self._randomize_looks = randomize_looks
    self._spread = spread
    self._terminate = terminate_on_success
    self._renderer: render.Renderer | None = None
    self._paraphrase = 0
    space = robots.ROBOTS[robot].workspace
    box = gymnasium.spaces.Box
    self.action_space = box(
        np.array([*space.low, -space.yaw, 0], np.float32),
        np.array([*space.high, space.yaw, 1], np.float32))
    self.observation_space = gymnasium.spaces.Dict({
        **{f"image_{camera}": box(0, 255, (image_size, image_size, 3), np.uint8)
           for camera in self.cameras},
        "state": box(np.array([-2, -2, -2, -np.pi, 0], np.float32),
                     np.array([2, 2, 2, np.pi, 1], np.float32)),
        "language": gymnasium.spaces.Text(128, charset=_CHARSET),
    })

  def reset(self, *, seed: int | None = None, options: dict | None = None):
    """Builds the world of `seed`; options: {"paraphrase": int}."""
    super().reset(seed=seed)
    if seed is None:
      seed = int(self.np_random.integers(2**31))
    self._paraphrase = int((options or {}).get("paraphrase", 0))
    self._drop_renderer()
    self.world = worlds.World(
        self.robot, self.verb, self.scene, seed, self._randomize_looks,
        self._spread)
    self._held = self._elapsed = 0
    return self._observe(), self._info()

  def step(self, action):
    """Runs 0.2 s towards the target; see the class for the meanings."""
    self.world.step(np.asarray(action, np.float64))
    self._elapsed += 1
    self._held = self._held + 1 if self.task.success(self.world) else 0
    info = self._info()
    return (
        self._observe(), float(info["success"]),
        bool(info["success"] and self._terminate),
        self._elapsed >= self._horizon, info,
    )

  def instruction(self, paraphrase: int = 0) -> str:
    """What the robot is told; paraphrase 0 is canonical."""
    return self.task.instruction(self.world.layout, paraphrase)

  def render(self) -> np.ndarray | None:
    """uint8[h, w, 3] of the first camera, or None without a render mode."""
    if self.render_mode is None:
      return None
    return self._draw(self.cameras[0] if self.cameras else "front")

  def close(self) -> None:
    """Frees the renderer."""
    self._drop_renderer()

  def _drop_renderer(self) -> None:
    if self._renderer is not None:
      self._renderer.close()
      self._renderer = None

  def _draw(self, camera: str) -> np.ndarray:
    if self._renderer is None:
      self._renderer = render.Renderer(
          self.world.model, self._size, self._supersample)
    return self._renderer.draw(self.world.data, camera)

  def _observe(self) -> dict:
    images = {f"image_{name}": self._draw(name) for name in self.cameras}
    return {**images, "state": self.world.state,
            "language": self.instruction(self._paraphrase)}

  def _info(self) -> dict:
    done = self._held >= HOLD
    return {
        "success": done,
        "is_success": done,
        "progress": self.task.progress(self.world),
        "language": self.instruction(self._paraphrase),
    }


def register() -> None:
  """Makes `gymnasium.make("dreamgen/tabletop-v0", verb=...)` work."""
  if "dreamgen/tabletop-v0" not in gymnasium.registry:
    gymnasium.register(
        "dreamgen/tabletop-v0",
        entry_point="dreamgen_jax.sims.tabletop.environment:TabletopEnv")
