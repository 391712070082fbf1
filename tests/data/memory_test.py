"""The memory of batches goes round, and never while somebody holds it."""

import numpy as np

from dreamgen_jax.data import memory


def test_what_is_held_is_not_used_again():
  room = memory.Room((2, 3), np.float32)
  first = room.take()
  assert first.shape == (2, 3) and first.dtype == np.float32
  address, part = first.ctypes.data, first[1:].reshape(-1)
  del first
  part[:] = 7
  second = room.take()
  second[:] = 0
  assert second.ctypes.data != address and (part == 7).all()
  del part
  assert room.take().ctypes.data == address
