"""Small software-rendered images; one GL context lives as long as the process.
"""

import atexit
import functools

import mujoco
import numpy as np

from dreamgen_jax.sims.tabletop import scene as scenes

_OFF = (
    mujoco.mjtRndFlag.mjRND_SHADOW,
    mujoco.mjtRndFlag.mjRND_REFLECTION,
    mujoco.mjtRndFlag.mjRND_SKYBOX,
    mujoco.mjtRndFlag.mjRND_HAZE,
)


@functools.cache
def _gl_context() -> mujoco.GLContext:
  context = mujoco.GLContext(scenes.OFFSCREEN, scenes.OFFSCREEN)
  atexit.register(context.free)
  return context


class Renderer:
  """Draws one model; `close` it before the model is replaced."""

  def __init__(self, model: mujoco.MjModel, size: int, supersample: int):
    _gl_context().make_current()
    self._size, self._supersample = size, supersample
    self._model = model
    self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
    self._scene = mujoco.MjvScene(model, maxgeom=200)
    for flag in _OFF:
      self._scene.flags[flag] = 0
    self._option = mujoco.MjvOption()
    self._camera = mujoco.MjvCamera()
    self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
    side = size * supersample
    self._rectangle = mujoco.MjrRect(0, 0, side, side)
    self._pixels = np.empty((side, side, 3), np.uint8)

  def draw(self, data: mujoco.MjData, camera: str) -> np.ndarray:
    """Upright RGB uint8[size, size, 3] of the named camera."""
    _gl_context().make_current()
    # Rendering goes wherever the last renderer did, until it is told.
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
    self._camera.fixedcamid = self._model.camera(camera).id
    mujoco.mjv_updateScene(
        self._model, data, self._option, None, self._camera,
        mujoco.mjtCatBit.mjCAT_ALL, self._scene)
    mujoco.mjr_render(self._rectangle, self._scene, self._context)
    mujoco.mjr_readPixels(self._pixels, None, self._rectangle, self._context)
    image = self._pixels[::-1]  # GL counts rows from below
    ratio = self._supersample
    if ratio == 1:
      return image.copy()
    total = np.zeros((self._size, self._size, 3), np.uint16)
    for row in range(ratio):
      for column in range(ratio):
        total += image[row::ratio, column::ratio]
    return (total // (ratio * ratio)).astype(np.uint8)

  def close(self) -> None:
    """Frees what the GL driver holds for the model."""
    _gl_context().make_current()
    self._context.free()
