"""Where videos lie: memory is kept for the next ones, batches are not copied.
"""

import contextlib
import ctypes
import functools
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

_TRIM, _TOP_PAD, _MMAP, _ARENA_MAX = -1, -2, -3, -8  # of malloc.h
_MIB = 1 << 20
_here = threading.local()


@contextlib.contextmanager
def lent(place: np.ndarray) -> Iterator[None]:
  """Lets this thread's next window be made in `place`, if it fits there."""
  _here.place = place
  try:
    yield
  finally:
    _here.place = None


def window(shape: Sequence[int], dtype: Any) -> np.ndarray:
  """As `np.empty`, for a window, which nobody keeps: what is lent, if it fits.
  """
  place = getattr(_here, "place", None)
  if place is None or place.shape != tuple(shape) or place.dtype != dtype:
    return np.empty(shape, dtype)
  _here.place = None
  return place


@functools.cache
def keep() -> None:
  """Tells malloc not to give freed blocks back to the system at once (glibc).

  By default each array of megabytes is new pages: filling them took as long as
  half of decoding a window. Blocks above 256 MiB still come and go. Threads
  that start from here on share one heap, as their own would be too small.
  """
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if sys.platform == "linux" and mallopt:
    mallopt(_ARENA_MAX, 1)
    mallopt(_MMAP, 256 * _MIB)
    mallopt(_TRIM, 512 * _MIB)
    mallopt(_TOP_PAD, 64 * _MIB)
