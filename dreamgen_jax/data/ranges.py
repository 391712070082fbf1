"""Parts of files: a window's bytes are read, and nothing around them.

ArrayRecord files are riegeli files: chunks one after another, with a header
of 24 bytes at every multiple of 64 KiB. Uncompressed chunks hold records as
they are, so any range of a record is one read. Addresses here count bytes
without those headers. Format: google/riegeli, doc/riegeli_records_file_format.
"""

import dataclasses
import os
import pathlib
import struct
from collections.abc import Callable

import numpy as np

from dreamgen_jax import errors

_BLOCK, _HEADER = 1 << 16, 24
_NET = _BLOCK - _HEADER
_CHUNK = struct.Struct("<QQQQQ")  # hash, size, hash, type and count, decoded


@dataclasses.dataclass(frozen=True)
class Part:
  """Bytes that are read when they are asked for.

  Attributes:
    fetch: (begin, size) -> bytes, of whatever holds them.
    begin, size: where they lie in it.
  """

  fetch: Callable[[int, int], bytes]
  begin: int
  size: int

  @classmethod
  def of(cls, data: bytes) -> "Part":
    """Of bytes in memory."""
    return cls(lambda begin, size: data[begin:begin + size], 0, len(data))

  def read(self, begin: int = 0, size: int | None = None) -> bytes:
    """`size` bytes from `begin`, fewer where the part ends.

    Raises:
      DataError: the file ends before the part does.
    """
    rest = self.size - begin
    size = max(0, rest if size is None else min(size, rest))
    data = self.fetch(self.begin + begin, size)
    if len(data) != size:
      raise errors.DataError("The file ends within a record.")
    return data

  def part(self, begin: int, size: int) -> "Part":
    """A part of this part."""
    return Part(self.fetch, self.begin + begin, size)


class RecordFile:
  """An ArrayRecord file whose records can be read in parts; thread-safe.

  Attributes:
    spans: i64[records, 2], begin and size of each; None if any is compressed.
  """

  def __init__(self, path: str | pathlib.Path, count: int):
    """Opens the file, which has `count` records, and finds them.

    Raises:
      DataError: the file is truncated or of another format.
    """
    self._path = path
    self._file = os.open(path, os.O_RDONLY)
    self.spans = self._find(count)

  def __del__(self, close=os.close):  # bound: modules may be gone at exit
    if hasattr(self, "_file"):
      close(self._file)

  def fetch(self, begin: int, size: int) -> bytes:
    """`size` bytes from address `begin`, fewer at the file's end."""
    if not size:
      return b""
    first = begin + _HEADER * (begin // _NET + 1)
    last = begin + size - 1
    end = last + _HEADER * (last // _NET + 1) + 1
    data = os.pread(self._file, end - first, first)
    border = -first % _BLOCK  # of the next header, from `first` on
    if border >= len(data):
      return data
    view, pieces = memoryview(data), [memoryview(data)[:border]]
    pieces += [view[at + _HEADER:at + _BLOCK]
               for at in range(border, len(data), _BLOCK)]
    return b"".join(pieces)

  def part(self, i: int) -> Part | None:
    """Record `i`, not read yet; None if records are compressed."""
    return None if self.spans is None else Part(
        self.fetch, *self.spans[i].tolist())

  def _find(self, count: int) -> np.ndarray | None:
    found: list[np.ndarray] = []
    at = held = 0
    while held < count:
      head = self.fetch(at, _CHUNK.size + 32)
      if len(head) < _CHUNK.size:
        raise errors.DataError(
            f"{self._path} ends after {held} of {count} records.")
      _, size, _, kind, _ = _CHUNK.unpack_from(head)
      if kind & 0xFF == ord("r"):
        body = head[_CHUNK.size:]
        if not body or body[0]:
          return None
        length, begin = varint(body, 1)
        begin += _CHUNK.size
        sizes = varints(self.fetch(at + begin, length))
        ends = at + begin + length + np.cumsum(sizes)
        found.append(np.stack([ends - sizes, sizes], axis=1))
        held += len(sizes)
      elif kind & 0xFF != ord("s"):  # the file's signature
        return None
      at += _CHUNK.size + size
    return np.concatenate([np.zeros((0, 2), np.int64), *found])


def varint(data: bytes, at: int) -> tuple[int, int]:
  """(the number in base 128 at `at`, where it ends)."""
  value = shift = 0
  while True:
    byte = data[at]
    at += 1
    value |= (byte & 127) << shift
    if byte < 128:
      return value, at
    shift += 7


def varints(data: bytes) -> np.ndarray:
  """All numbers of `data`, i64; two's complement, as protocol buffers have it.
  """
  plain = np.frombuffer(data, np.uint8)
  ends = np.flatnonzero(plain < 128)
  begins = np.concatenate([[0], ends[:-1] + 1])[:len(ends)]
  found = np.zeros(len(ends), np.uint64)
  for i in range(int((ends - begins).max(initial=-1)) + 1):
    there = begins + i <= ends
    found[there] |= (plain[begins[there] + i] & 127).astype(np.uint64) << (
        np.uint64(7 * i))
  return found.view(np.int64)
