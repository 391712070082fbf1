"""Keeps memory that videos took, for the next ones: glibc only."""

import ctypes
import functools
import sys

_TRIM, _TOP_PAD, _MMAP, _ARENA_MAX = -1, -2, -3, -8  # of malloc.h
_MIB = 1 << 20


@functools.cache
def keep() -> None:
  """Tells malloc not to give freed blocks back to the system at once.

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
