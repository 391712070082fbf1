"""Where videos lie: a batch is made where one before it lay, and not copied.

New pages for each batch of megabytes took as long as half of decoding it.
"""

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

_here = threading.local()


class Room:
  """Arrays of one shape; the memory of those that nobody holds goes round."""

  def __init__(self, shape: Sequence[int], dtype: Any):
    """Of every array."""
    self._shape, self._dtype = tuple(shape), dtype
    self._free: list[np.ndarray] = []

  @property
  def nbytes(self) -> int:
    """Of one of them."""
    return math.prod(self._shape) * np.dtype(self._dtype).itemsize

  def take(self) -> np.ndarray:
    """As `np.empty`; not used again while it or a part of it is held."""
    try:
      block = self._free.pop()
    except IndexError:
      block = np.empty(self._shape, self._dtype)
    return np.asarray(_Loan(block, self._free))


class _Loan:
  """What an array and all its parts hold, and which knows when they are gone.

  (Parts of a view would hold the block itself.)
  """

  def __init__(self, block: np.ndarray, free: list[np.ndarray]):
    self.__array_interface__ = block.__array_interface__
    self._block, self._free = block, free

  def __del__(self):
    self._free.append(self._block)


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
