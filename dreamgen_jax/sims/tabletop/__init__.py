"""The embedded world: robot arms, blocks, bins and fixtures on a table."""

import os
from typing import Any

import numpy as np

from dreamgen_jax import errors

# MuJoCo reads these when it is first imported.
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
# Software GL without worker threads survives a fork and costs the same.
os.environ.setdefault("LP_NUM_THREADS", "0")

try:
  import mujoco
except (ImportError, AttributeError, OSError) as error:
  raise errors.UserError(
      "The tabletop simulator cannot load MuJoCo with MUJOCO_GL="
      f"{os.environ['MUJOCO_GL']} ({error}). Run: apt-get install -y "
      "libegl1 libegl-mesa0 libgl1-mesa-dri && pip install mujoco==3.17.0"
  ) from error


def make(task: str, **settings: Any) -> Any:
  """An environment of a verb, see `environment.TabletopEnv`."""
  from dreamgen_jax.sims.tabletop import environment  # imports this package

  return environment.TabletopEnv(verb=task, **settings)


def hold(observation: dict[str, Any], keys: Any) -> np.ndarray:
  """The no-op: stay at the pose first seen, with the gripper open."""
  del keys
  pose = observation["state"][:, -1].copy()  # b s
  pose[:, -1] = 0.0  # the last state is an opening, the last action a closing
  return np.repeat(pose[:, None], 64, axis=1)
