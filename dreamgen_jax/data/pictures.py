"""Encoded pictures (JPEG, PNG, ...) to pixels."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import PIL
import simplejpeg
from PIL import Image

from dreamgen_jax import errors
from dreamgen_jax.data import ranges

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"
_ENDS = {_JPEG: b"\xff\xd9", _PNG: b"IEND"}
_PADDING = 1024  # bytes that may follow an end


def are(values: Sequence[Any]) -> bool:
  """Whether values of a feature are JPEGs or PNGs."""
  return len(values) > 0 and isinstance(values[0], bytes) and (
      values[0].startswith((_JPEG, _PNG)))


def flaw(part: ranges.Part) -> str:
  """What is wrong with a picture as far as can be told undecoded, or ""."""
  if not part.size:
    return "is empty"
  head = part.read(0, 4)
  for start, end in _ENDS.items():
    if head.startswith(start) and end not in part.read(
        max(0, part.size - _PADDING)):
      return "ends too early"
  return ""


def decode(parts: Sequence[ranges.Part],
           empty: Callable[..., np.ndarray] = np.empty) -> np.ndarray:
  """Pictures of one size -> u8[f,h,w,3]; JPEGs by libjpeg-turbo.

  Args:
    parts: one or more pictures.
    empty: (shape, dtype) -> where they are put.

  Raises:
    DataError: a picture is empty, damaged, or of another size.
  """
  absent = [i for i, part in enumerate(parts) if not part.size]
  if absent:
    raise errors.DataError(f"picture {absent[0]} of those wanted is empty.")
  try:
    first = _pixels(parts[0].read())
    found = empty((len(parts), *first.shape), np.uint8)  # f h w 3
    found[0] = first
    for place, part in zip(found[1:], parts[1:], strict=True):
      pixels = _pixels(part.read(), place)
      if pixels.shape != place.shape:
        raise ValueError(
            f"it has {pixels.shape[1]}x{pixels.shape[0]} pixels, the first one "
            f"{place.shape[1]}x{place.shape[0]}")
      if not np.may_share_memory(pixels, place):
        place[...] = pixels
    return found
  except PIL.UnidentifiedImageError as error:
    raise errors.DataError(
        "a picture is no JPEG, PNG or the like: it begins with "
        f"{parts[0].read(0, 16)!r}.") from error
  except (OSError, ValueError) as error:
    raise errors.DataError(f"a picture is damaged: {error}.") from error


def _pixels(data: bytes, place: np.ndarray | None = None) -> np.ndarray:
  """u8[h,w,3]; a JPEG of that size is decoded in `place`."""
  if data.startswith(_JPEG):
    if place is not None and (
        simplejpeg.decode_jpeg_header(data)[:2] != place.shape[:2]):
      place = None
    return simplejpeg.decode_jpeg(data, buffer=place)
  return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
