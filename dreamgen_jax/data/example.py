"""tf.Example on the wire: where each feature lies, and what it says.

A tf.Example keeps all values of one feature side by side, so one of a thousand
JPEGs, or the actions without the videos, are read without the rest, and
without TensorFlow. Source: tensorflow/core/example/feature.proto.
"""

from typing import Any, NamedTuple

import numpy as np

from dreamgen_jax import errors
from dreamgen_jax.data import ranges

_BYTES, _FLOATS, _INTS = 1, 2, 3
_AHEAD = 4096  # bytes read at once; short features come with their headers
_REST = 1 << 20  # a record's end of this size is read as a whole
_HEADERS = 256  # bytes; more than those around a feature and its name


class Feature(NamedTuple):
  """One feature's values: their kind, and the bytes of the list."""

  kind: int
  part: ranges.Part

  def values(self) -> Any:
    """list of bytes, f32[n] or i64[n]."""
    if self.kind == _BYTES:
      data = self.part.read()
      return [data[begin:end] for begin, end in _items(data)]
    if not self.part.size:
      return np.zeros(0, np.float32 if self.kind == _FLOATS else np.int64)
    data = self.part.read()
    if data[0] != 0x0A:
      raise errors.DataError("A feature's numbers are not packed.")
    _, at = ranges.varint(data, 1)
    if self.kind == _FLOATS:
      return np.frombuffer(data, "<f4", offset=at)
    return ranges.varints(data[at:])

  def first(self) -> ranges.Part:
    """The first of its byte strings, not read yet."""
    head = self.part.read(0, _HEADERS)
    size, at = ranges.varint(head, 1)
    return self.part.part(at, size)


def features(record: ranges.Part) -> dict[str, Feature]:
  """Name -> where its values lie; short ones are read at once.

  Raises:
    DataError: not a tf.Example.
  """
  found = {}
  try:
    head, base = record.read(0, _AHEAD), 0
    at = _enter(head, 0, 0x0A)[0]
    while at < record.size:
      if at + _HEADERS > base + len(head) < record.size:
        rest = record.size - at
        head, base = record.read(at, rest if rest <= _REST else _AHEAD), at
      inner, size = _enter(head, at - base, 0x0A)
      name_at, name_size = _enter(head, inner, 0x0A)
      name = head[name_at:name_at + name_size].decode()
      feature_at, feature_size = _enter(head, name_at + name_size, 0x12)
      if feature_size:
        begin, length = _enter(head, feature_at)
        values = (ranges.Part.of(head[begin:begin + length])
                  if begin + length <= len(head)
                  else record.part(base + begin, length))
        found[name] = Feature(head[feature_at] >> 3, values)
      at = base + inner + size
    return found
  except (IndexError, UnicodeDecodeError) as error:
    raise errors.DataError(f"The record is not a tf.Example: {error}.") from (
        error)


def _enter(data: bytes, at: int, tag: int | None = None) -> tuple[int, int]:
  """(begin, size) of the field at `at`."""
  if tag is not None and data[at] != tag:
    raise errors.DataError(
        f"The record is not a tf.Example: field {data[at]:#x} where {tag:#x} "
        "belongs.")
  size, begin = ranges.varint(data, at + 1)
  return begin, size


def _items(data: bytes) -> list[tuple[int, int]]:
  """(begin, end) of each byte string of a list."""
  spans, at = [], 0
  while at < len(data):
    size, begin = ranges.varint(data, at + 1)
    at = begin + size
    spans.append((begin, at))
  return spans
