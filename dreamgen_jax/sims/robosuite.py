"""robosuite's tabletop tasks (pip install robosuite==1.5.2 mujoco==3.3.7).

Newer MuJoCo breaks robosuite 1.5.2. The robot is `panda_osc`, which leaves out
Wipe, whose Panda has no gripper; robosuite has no instructions, so that they
are ours.
"""

from typing import Any, ClassVar

import gymnasium
import numpy as np

from dreamgen_jax import errors, registry
from dreamgen_jax.data import rotation

try:
  import robosuite
except ImportError as error:
  raise errors.ConfigError(
      "This simulator needs robosuite: pip install --no-deps "
      "robosuite==1.5.2, with mujoco==3.3.7 numba scipy h5py pillow termcolor "
      "opencv-python-headless.") from error
if robosuite.__version__.startswith("1.4."):  # has other controllers and seeds
  raise errors.ConfigError(
      f"This is robosuite {robosuite.__version__}, which LIBERO needs; the "
      "simulator needs 1.5.2, in an environment of its own.")

INSTRUCTIONS = {
    "Door": "open the door",
    "Lift": "lift the cube",
    "NutAssemblyRound": "put the round nut on the round peg",
    "NutAssemblySquare": "put the square nut on the square peg",
    "PickPlaceBread": "put the bread into its bin",
    "PickPlaceCan": "put the can into its bin",
    "PickPlaceCereal": "put the cereal into its bin",
    "PickPlaceMilk": "put the milk into its bin",
    "Stack": "stack the red cube on the green cube",
    "ToolHang": "hang the tool on the frame",
}
CAMERAS = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}


class RobosuiteEnv(gymnasium.Env):
  """One task of robosuite behind the API of `sims`.

  Action: f32[7], motions of the hand in [-1, 1] and 1 to close, 0 to open.
  Observation: `image_<camera>` u8[h,w,3], `state` f32[8] and `language`, see
  `embodiments.panda_osc`. `info` has success.
  """

  metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 20}

  def __init__(self, task: str, *, horizon: int = 400, image_size: int = 84,
               cameras: tuple[str, ...] = ("agentview", "wrist"),
               robot: str = "Panda"):
    """See the class.

    Raises:
      ConfigError: unknown task or camera.
    """
    for what, name, known in (("task", task, INSTRUCTIONS),
                              *(("camera", c, CAMERAS) for c in cameras)):
      if name not in known:
        raise errors.ConfigError(
            f"robosuite has no {what} {name!r}; have: {', '.join(known)}."
            + registry.nearest(name, list(known)))
    self._language, self._cameras = INSTRUCTIONS[task], tuple(cameras)
    self._env = robosuite.make(
        task, robots=robot, has_renderer=False, has_offscreen_renderer=True,
        use_camera_obs=True, camera_names=[CAMERAS[c] for c in cameras],
        camera_heights=image_size, camera_widths=image_size, horizon=horizon,
        control_freq=20, reward_shaping=False, ignore_done=True)
    self._horizon = horizon
    box = gymnasium.spaces.Box
    self.action_space = box(-1.0, 1.0, (7,), np.float32)
    self.observation_space = gymnasium.spaces.Dict({
        **{f"image_{camera}": box(0, 255, (image_size, image_size, 3), np.uint8)
           for camera in self._cameras},
        "state": box(-np.inf, np.inf, (8,), np.float32),
        "language": gymnasium.spaces.Text(128, charset=self._language),
    })

  def reset(self, *, seed: int | None = None, options: dict | None = None):
    """Objects lie where the seed places them."""
    super().reset(seed=seed)
    # Placements hold the generator of `make` for good, so that it is turned
    # back instead of being replaced.
    self._env.rng.bit_generator.state = (
        np.random.default_rng(seed).bit_generator.state)
    self._elapsed = 0
    return self._look(self._env.reset()), {"success": False}

  def step(self, action):
    """Runs 0.05 s."""
    command = np.array(action, np.float64)
    command[6] = 1.0 if command[6] > 0.5 else -1.0
    seen, *_ = self._env.step(command)
    self._elapsed += 1
    success = bool(self._env._check_success())
    return (self._look(seen), float(success), success,
            self._elapsed >= self._horizon, {"success": success})

  def close(self) -> None:
    """Frees the renderer."""
    self._env.close()

  def _look(self, seen):
    images = {f"image_{name}": np.ascontiguousarray(
        seen[f"{CAMERAS[name]}_image"][::-1])  # OpenGL's rows go up
              for name in self._cameras}
    state = np.concatenate([
        seen["robot0_eef_pos"], rotation.turn(seen["robot0_eef_quat"]),
        seen["robot0_gripper_qpos"]]).astype(np.float32)
    return {**images, "state": state, "language": self._language}


def make(task: str, **settings: Any) -> RobosuiteEnv:
  """An environment, see `RobosuiteEnv`."""
  return RobosuiteEnv(task, **settings)


def hold(observation: dict[str, Any], keys: Any) -> np.ndarray:
  """The no-op: no motion, gripper open."""
  del keys
  return np.zeros((len(observation["state"]), 64, 7))
