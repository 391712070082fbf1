"""Image sizes, by PIL: uint8[..., h, w, 3] in and out."""

import numpy as np
from PIL import Image

from dreamgen_jax import errors

_FILTERS = {
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,  # antialiased when shrinking
}


def resize(images: np.ndarray, height: int, width: int,
           method: str = "area") -> np.ndarray:
  """Resizes uint8[..., h, w, 3] to `height` x `width`, aspect not kept.

  Args:
    images: RGB images with any leading axes.
    height, width: the new size in pixels.
    method: "area" (mean of the covered pixels) or "bilinear".

  Raises:
    DataError: not uint8 RGB images, or an unknown method.
  """
  images = np.asarray(images)
  if images.dtype != np.uint8 or images.ndim < 3 or images.shape[-1] != 3:
    raise errors.DataError(
        "Images must be uint8[..., h, w, 3], not "
        f"{images.dtype}{list(images.shape)}."
    )
  if method not in _FILTERS:
    raise errors.DataError(
        f"Unknown resize method {method!r}; have: {', '.join(_FILTERS)}."
    )
  if images.shape[-3:-1] == (height, width):
    return images
  flat = images.reshape(-1, *images.shape[-3:])
  out = np.empty((len(flat), height, width, 3), np.uint8)
  for i, image in enumerate(flat):
    picture = Image.fromarray(np.ascontiguousarray(image))
    out[i] = np.asarray(picture.resize((width, height), _FILTERS[method]))
  return out.reshape(*images.shape[:-3], height, width, 3)


def letter_box(images: np.ndarray, size: int,
               method: str = "area") -> np.ndarray:
  """Resizes uint8[..., h, w, 3] into a black square, aspect kept, centred.

  Raises:
    DataError: as `resize`.
  """
  images = np.asarray(images)
  height, width = images.shape[-3:-1]
  scale = size / max(height, width)
  inner = max(1, round(height * scale)), max(1, round(width * scale))
  out = np.zeros((*images.shape[:-3], size, size, 3), np.uint8)
  top, left = (size - inner[0]) // 2, (size - inner[1]) // 2
  out[..., top:top + inner[0], left:left + inner[1], :] = resize(
      images, *inner, method=method
  )
  return out
