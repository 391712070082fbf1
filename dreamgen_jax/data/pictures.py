"""Encoded pictures (JPEG, PNG, ...) to pixels."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL
import simplejpeg
from PIL import Image

from dreamgen_jax import errors
from dreamgen_jax.data import ranges

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"


def are(values: Sequence[Any]) -> bool:
  """Whether values of a feature are JPEGs or PNGs."""
  return len(values) > 0 and isinstance(values[0], bytes) and (
      values[0].startswith((_JPEG, _PNG)))


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
  except PIL.UnidentifiedImageError as error:
    raise errors.DataError(
        "a picture is no JPEG, PNG or the like: it begins with "
        f"{parts[0].read(0, 16)!r}.") from error
  except (OSError, ValueError) as error:
    raise errors.DataError(f"a picture is damaged: {error}.") from error


def _pixels(data: bytes) -> np.ndarray:
  if data.startswith(_JPEG):
    return simplejpeg.decode_jpeg(data)
  return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
