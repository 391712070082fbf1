"""Encoded pictures (JPEG, PNG, ...) to pixels."""

import io
from collections.abc import Sequence

import numpy as np
import PIL
import simplejpeg
from PIL import Image

from dreamgen_jax import errors
from dreamgen_jax.data import ranges

_JPEG = b"\xff\xd8\xff"


def decode(parts: Sequence[ranges.Part]) -> np.ndarray:
  """Pictures of one size -> u8[f,h,w,3]; JPEGs by libjpeg-turbo.

  Raises:
    DataError: a picture is empty, damaged, or of another size.
  """
  empty = [i for i, part in enumerate(parts) if not part.size]
  if empty:
    raise errors.DataError(f"picture {empty[0]} of those wanted is empty.")
  try:
    pixels = [_pixels(part.read()) for part in parts]
    return np.stack(pixels)  # f h w 3
  except (PIL.UnidentifiedImageError, OSError, ValueError) as error:
    raise errors.DataError(f"a picture is damaged: {error}.") from error


def _pixels(data: bytes) -> np.ndarray:
  if data.startswith(_JPEG):
    return simplejpeg.decode_jpeg(data)
  return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
