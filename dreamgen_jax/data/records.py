"""Random access to the records of TFRecord and ArrayRecord files.

A TFRecord file is as good as an ArrayRecord one once its headers have been
read: a record is a range of bytes. Checksums are not verified. Format:
tensorflow/core/lib/io/record_writer.h.
"""

import contextlib
import functools
import os
import struct
from collections.abc import Callable, Iterator

from array_record.python import array_record_data_source
from etils import epath

from dreamgen_jax.data import checks, ranges

_HEAD, _TAIL = 12, 4  # length and its checksum before a record; one after it

Fetch = Callable[[int, int], bytes]


@contextlib.contextmanager
def opened(file: str, format: str) -> Iterator[Callable[[int, int],
                                                        ranges.Part]]:
  """Yields a function from (place, size) to a record that can be read in parts.

  Place and size are those that `scan` gave. A local TFRecord is read only
  where it is asked; others record by record.
  """
  if format == "array_record":
    reader = _array_record(file)
    yield lambda place, unused_size: ranges.Part.of(reader[place])
    return
  with _bytes(file) as fetch:
    if _is_local(file):
      yield lambda place, size: ranges.Part(fetch, place, size)
    else:  # many small requests would take longer
      yield lambda place, size: ranges.Part.of(
          ranges.Part(fetch, place, size).read())


def scan(file: str, format: str) -> Iterator[tuple[int, int]]:
  """Yields (place, size in bytes) of every whole record.

  Raises:
    Bad: the file is damaged, or ends within a record; what came before is
      good.
  """
  if format == "array_record":
    yield from ((i, 0) for i in range(len(_array_record(file))))
    return
  end = epath.Path(file).stat().length
  with _bytes(file) as fetch:
    at = 0
    while at < end:
      head = fetch(at, _HEAD)
      size = struct.unpack("<Q", head[:8])[0] if len(head) == _HEAD else end
      if at + _HEAD + size + _TAIL > end:
        raise checks.Bad(
            "truncated", f"The file ends within a record, {end - at} bytes "
            f"after its beginning at byte {at}.")
      yield at + _HEAD, size
      at += _HEAD + size + _TAIL


@contextlib.contextmanager
def _bytes(file: str) -> Iterator[Fetch]:
  if _is_local(file):
    handle = os.open(file, os.O_RDONLY)
    try:
      yield lambda begin, size: os.pread(handle, size, begin)
    finally:
      os.close(handle)
    return
  with epath.Path(file).open("rb") as stream:

    def fetch(begin, size):
      stream.seek(begin)
      return stream.read(size)

    yield fetch


@functools.lru_cache(maxsize=64)
def _array_record(file: str):
  try:
    return array_record_data_source.ArrayRecordDataSource([file])
  except Exception as error:  # riegeli's errors arrive untyped
    raise checks.Bad(
        "truncated", "The file is damaged or truncated: "
        f"{str(error).splitlines()[0]}.") from error


def _is_local(file: str) -> bool:
  return "://" not in file
