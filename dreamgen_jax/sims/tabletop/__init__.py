"""The embedded world: robot arms, blocks, bins and fixtures on a table."""

import os

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
