"""Facts of millions of episodes in memory: under 100 bytes an episode.

Nothing here grows with the length of episodes: windows are counted, and found
by bisection when they are asked for.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_SMALL = {"steps": np.int32, "frames": np.int32, "success": np.int8}


class Names(Sequence):
  """Texts in few bytes: decoded when they are asked for."""

  def __init__(self, encoded: np.ndarray):
    """Args: bytes of a fixed width, see `encode`."""
    self._encoded = encoded

  def __len__(self) -> int:
    return len(self._encoded)

  def __getitem__(self, i: Any) -> Any:
    if isinstance(i, slice):
      return Names(self._encoded[i])
    return self._encoded[i].decode()

  def __eq__(self, other: object) -> bool:
    return isinstance(other, Sequence) and list(self) == list(other)

  def __contains__(self, name: object) -> bool:
    return isinstance(name, str) and bool(
        (self._encoded == name.encode()).any())

  def index(self, value: str, *unused: int) -> int:
    """Position of a name.

    Raises:
      ValueError: it is not there.
    """
    found = np.flatnonzero(self._encoded == value.encode())
    if not len(found):
      raise ValueError(f"{value!r} is not in the index.")
    return int(found[0])


def encode(texts: np.ndarray) -> np.ndarray:
  """Texts as bytes of a fixed width, a quarter of numpy's own."""
  return np.char.encode(texts, "utf-8")


def compact(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The same columns, in as few bytes as they need; read-only.

  What is the same for all episodes takes none; texts become bytes.
  """
  found = {}
  for name, values in columns.items():
    values = (encode(values) if values.dtype.kind == "U" else
              values.astype(_SMALL.get(name, values.dtype), copy=False))
    if len(values) and name != "id" and (values == values[0]).all():
      values = np.broadcast_to(np.array(values[0]), len(values))
    found[name] = values
  return found


class Starts:
  """Where windows begin: rows (episode, first frame), as an i64[n,2] array has.

  Eight bytes an episode, however many windows it holds.
  """

  def __init__(self, last: np.ndarray, stride: int):
    """Starts 0, stride, .. <= last[i] of every episode; none where it is < 0.
    """
    last = np.asarray(last, np.int64)
    self._ends = np.cumsum(np.where(last < 0, 0, last // stride + 1))
    self._stride = stride

  def __len__(self) -> int:
    return int(self._ends[-1]) if len(self._ends) else 0

  def __getitem__(self, key: Any) -> np.ndarray:
    """A row, or rows of an index array or slice, or columns of them."""
    rows, *columns = key if isinstance(key, tuple) else (key,)
    if isinstance(rows, int | np.integer):
      rows = np.asarray(range(len(self))[rows])  # bounds, and from the end
    elif isinstance(rows, slice):
      rows = np.arange(*rows.indices(len(self)))
    else:
      rows = np.asarray(rows)
      rows = np.flatnonzero(rows) if rows.dtype == bool else rows % len(self)
    episode = np.searchsorted(self._ends, rows, side="right")
    before = np.where(episode > 0, self._ends[episode - 1], 0)
    found = np.stack([episode, (rows - before) * self._stride], axis=-1)
    return found[(..., *columns)] if columns else found

  def tolist(self) -> list[list[int]]:
    """All rows."""
    return self[:].tolist()
