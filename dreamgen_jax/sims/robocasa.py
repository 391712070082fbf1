"""RoboCasa's kitchens by its own Gymnasium wrapper (source install, v1.0).

Assets are downloaded by RoboCasa's scripts. The robot is `panda_omron`; names
are those of GR00T's data.
"""

import string
from typing import Any, ClassVar

import gymnasium
import numpy as np

from dreamgen_jax import errors, registry

try:
  import robocasa  # registers its environments
except ImportError as error:
  raise errors.ConfigError(
      "This simulator needs RoboCasa: install its source and assets, see "
      "https://robocasa.ai.") from error

CAMERAS = {"left_view": "video.robot0_agentview_left",
           "right_view": "video.robot0_agentview_right",
           "wrist_view": "video.robot0_eye_in_hand"}
_ROBOT = registry.find("embodiments", "panda_omron").EMBODIMENT


class RobocasaEnv(gymnasium.Env):
  """One kitchen task behind the API of `sims`; see `embodiments.panda_omron`.

  Action: f32[12] and observation: `image_<camera>` u8[h,w,3], `state` f32[16],
  `language`, in the embodiment's order. `info` has success.
  """

  metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 20}

  def __init__(self, task: str, *, horizon: int = 500,
               split: str | None = None):
    """A task's name, such as "TurnOnMicrowave"; `split` of its kitchens.

    Raises:
      ConfigError: RoboCasa has no such task.
    """
    try:
      self._env = gymnasium.make(f"robocasa/{task}", split=split)
    except gymnasium.error.Error as error:
      raise errors.ConfigError(
          f"RoboCasa {robocasa.__version__} has no task {task!r}: {error}."
      ) from error
    self._horizon = horizon
    inner = self._env.observation_space
    box = gymnasium.spaces.Box
    self.action_space = box(-1.0, 1.0, (_ROBOT.action_dim,), np.float32)
    self.observation_space = gymnasium.spaces.Dict({
        **{f"image_{name}": inner[source] for name, source in CAMERAS.items()},
        "state": box(-np.inf, np.inf, (_ROBOT.state_dim,), np.float32),
        "language": gymnasium.spaces.Text(256, charset=string.printable),
    })

  def reset(self, *, seed: int | None = None, options: dict | None = None):
    """A kitchen of the seed."""
    super().reset(seed=seed)
    seen, _ = self._env.reset(seed=seed)
    self._elapsed = 0
    return self._look(seen), {"success": False}

  def step(self, action):
    """Runs 0.05 s."""
    parts, start = {}, 0
    for key in _ROBOT.action:
      value = np.asarray(action[start:start + key.dims], np.float32)
      if key.kind == "binary":
        value = (value > 0.5).astype(np.float32)
      parts[f"action.{key.name}"] = value
      start += key.dims
    seen, reward, _, _, info = self._env.step(parts)
    self._elapsed += 1
    success = bool(info.get("success", reward > 0))
    return (self._look(seen), float(success), success,
            self._elapsed >= self._horizon, {"success": success})

  def close(self) -> None:
    """Frees the simulator."""
    self._env.close()

  def _look(self, seen):
    return {
        **{f"image_{name}": seen[source] for name, source in CAMERAS.items()},
        "state": np.concatenate([
            seen[f"state.{key.name}"] for key in _ROBOT.state
        ]).astype(np.float32),
        "language": str(seen["annotation.human.task_description"]),
    }


def make(task: str, **settings: Any) -> RobocasaEnv:
  """An environment, see `RobocasaEnv`."""
  return RobocasaEnv(task, **settings)


def hold(observation: dict[str, Any], keys: Any) -> np.ndarray:
  """The no-op: no motion, gripper open, the arm in control."""
  del keys
  return np.zeros((len(observation["state"]), 64, _ROBOT.action_dim))
