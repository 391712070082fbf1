"""Statistics of states and actions, and normalisation by them, both ways.

Formulas are those of GR00T's released normalisers:
  min_max   2 (x - min) / (max - min) - 1, 0 where min = max, not clipped
  q99       the same with the 1 % and 99 % quantiles, clipped to [-1, 1];
            passed through where they are equal
  mean_std  (x - mean) / std, passed through where std = 0
  identity  x
Keys of kind "angle" or "rotation" are divided by half a turn instead (identity
leaves them alone). "binary" keys always go from {0, 1} to {-1, 1} and back by
x > 0; GR00T's released weights want {0, 1}: `binary_low=0.0`.

Projects differ in what never, or hardly, moves; checkpoints record whose rule
they were made by (`zero_range`):
  groot             as above
  diffusion_policy  a range under 1e-4 is not scaled, its low end becomes 0
  openpi            ranges are 1e-6 wider; q99 is not clipped
  lerobot           no range is 1e-8, so that a constant becomes -1
"""

import dataclasses
import json
import math
import os
import pathlib
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dreamgen_jax import errors, types

_FIELDS = ("mean", "std", "min", "max", "q01", "q99")
_HALF_TURN = {"rad": math.pi, "deg": 180.0}
ZERO_RANGES = ("groot", "diffusion_policy", "openpi", "lerobot")
_MAX_ROWS = 500_000  # kept for the quantiles; exact up to here


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
  """Per dimension float64[d] of one vector, over `count` rows."""

  mean: np.ndarray
  std: np.ndarray
  min: np.ndarray
  max: np.ndarray
  q01: np.ndarray
  q99: np.ndarray
  count: int

  def to_json(self) -> dict[str, Any]:
    """Plain lists."""
    return {name: getattr(self, name).tolist() for name in _FIELDS} | {
        "count": self.count
    }

  @classmethod
  def from_json(cls, value: dict[str, Any]) -> "Statistics":
    """Inverse of `to_json`.

    Raises:
      DataError: a field is missing, or the fields differ in width.
    """
    missing = [name for name in _FIELDS if name not in value]
    if missing:
      raise errors.DataError(f"Statistics lack {', '.join(missing)}.")
    fields = {name: np.array(value[name], np.float64) for name in _FIELDS}
    if len({field.shape for field in fields.values()}) > 1:
      raise errors.DataError("The fields of the statistics differ in width.")
    return cls(**fields, count=int(value.get("count", 0)))


class Accumulator:
  """Statistics of a stream of rows in bounded memory.

  Quantiles are exact up to 500,000 rows; beyond that they are taken over
  every second, fourth, ... row.
  """

  def __init__(self, width: int):
    """For rows of `width` values."""
    self._count = 0
    self._mean, self._m2 = np.zeros(width), np.zeros(width)
    self._min, self._max = np.full(width, np.inf), np.full(width, -np.inf)
    self._rows: list[np.ndarray] = []
    self._held = 0
    self._stride, self._seen = 1, 0

  def add(self, rows: np.ndarray) -> None:
    """Adds float[n, d]; rows with missing (NaN) values are left out."""
    rows = np.asarray(rows, np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
      return
    total = self._count + len(rows)
    mean = rows.mean(axis=0)
    delta = mean - self._mean
    self._m2 += ((rows - mean) ** 2).sum(axis=0)
    self._m2 += delta**2 * self._count * len(rows) / total
    self._mean += delta * len(rows) / total
    self._min = np.minimum(self._min, rows.min(axis=0))
    self._max = np.maximum(self._max, rows.max(axis=0))
    self._count = total
    self._keep(rows)

  def result(self) -> Statistics:
    """Statistics of all rows so far.

    Raises:
      DataError: there was none.
    """
    if not self._count:
      raise errors.DataError("There is no row to take statistics of.")
    q01, q99 = np.quantile(np.concatenate(self._rows), [0.01, 0.99], axis=0)
    # A constant's standard deviation must be exactly zero.
    std = np.where(self._min == self._max, 0.0,
                   np.sqrt(self._m2 / self._count))
    return Statistics(self._mean.copy(), std, self._min.copy(),
                      self._max.copy(), q01, q99, self._count)

  def _keep(self, rows: np.ndarray) -> None:
    taken = rows[(-self._seen) % self._stride::self._stride]
    self._seen += len(rows)
    self._rows.append(taken)
    self._held += len(taken)
    while self._held > _MAX_ROWS:
      self._rows = [np.concatenate(self._rows)[::2]]
      self._held = len(self._rows[0])
      self._stride *= 2


def compute(dataset) -> dict[str, Statistics]:
  """{"state": ..., "action": ...} over the kept episodes of a dataset.

  Computed once and kept beside the data under the digest of its content; an
  entry is absent if no episode has such a vector. Folders that cannot be
  written to get no such file.

  Args:
    dataset: `rlds.Dataset`, or a `source.Source`, which knows them.

  Raises:
    DataError: neither states nor actions, or a damaged statistics file.
  """
  known = getattr(dataset, "statistics", None)
  if known:
    return known
  path = pathlib.Path(dataset.path) / (
      f"dreamgen_statistics_{dataset.digest[:16]}.json")
  if path.exists():
    try:
      return {name: Statistics.from_json(value)
              for name, value in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as error:
      raise errors.DataError(
          f"The statistics {path} are damaged; remove the file to have them "
          "computed again."
      ) from error
  robot = dataset.embodiment
  sums = {"state": Accumulator(robot.state_dim),
          "action": Accumulator(robot.action_dim)}
  found = set()
  for i in np.flatnonzero(dataset.index["kept"]).tolist():
    episode = dataset.episode(i, cameras=())
    for name, accumulator in sums.items():
      values = getattr(episode, name)
      if values is not None:
        accumulator.add(values)
        found.add(name)
  if not found:
    raise errors.DataError(
        f"{dataset.path} has neither states nor actions to take statistics "
        "of."
    )
  statistics = {name: sums[name].result() for name in sorted(found)}
  if os.access(path.parent, os.W_OK):
    temporary = path.with_name(f"incomplete.{uuid.uuid4().hex}")
    temporary.write_text(json.dumps(
        {name: value.to_json() for name, value in statistics.items()}))
    os.replace(temporary, path)
  return statistics


@dataclasses.dataclass(frozen=True, eq=False)
class Normalizer:
  """Maps physical units to the network's and back, along the last axis.

  Attributes:
    keys: the vector's keys in order.
    statistics: over vectors of these keys.
    binary_low: what a binary 0 is mapped to; 1 stays 1.
    zero_range: of `ZERO_RANGES`; see the module.
  """

  keys: tuple[types.Key, ...]
  statistics: Statistics
  binary_low: float = -1.0
  zero_range: str = "groot"

  @classmethod
  def create(cls, keys: Sequence[types.Key], statistics: Statistics, *,
             allow_constant: bool = False, binary_low: float = -1.0,
             zero_range: str = "groot") -> "Normalizer":
    """A checked normalizer.

    Args:
      keys: the vector's keys in order.
      statistics: over vectors of these keys.
      allow_constant: accept keys that never move; their zero-range rule
        applies then.
      binary_low: what a binary 0 is mapped to.
      zero_range: of `ZERO_RANGES`; see the module.

    Raises:
      ConfigError: unknown zero_range.
      DataError: widths differ, or a key to be normalised has no range.
    """
    if zero_range not in ZERO_RANGES:
      raise errors.ConfigError(
          f"Unknown zero_range {zero_range!r}; have: {', '.join(ZERO_RANGES)}.")
    made = cls(tuple(keys), statistics, binary_low, zero_range)
    width = sum(key.dims for key in keys)
    if statistics.mean.shape != (width,):
      raise errors.DataError(
          f"Statistics of width {statistics.mean.shape[0]} do not fit keys "
          f"of total width {width}."
      )
    if not allow_constant:
      constant = [
          f"{key.name}[{i}] = {low[i]:g}"
          for key, where in made._slices()
          for low, high in [made._range(key, where)]
          for i in range(key.dims)
          if _scaled(key) and not high[i] > low[i]
      ]
      if constant:
        raise errors.DataError(
            f"Cannot normalise what never changes: {', '.join(constant)}; "
            "give such keys normalize='identity', use more data, or allow "
            "constants."
        )
    return made

  @property
  def scaled(self) -> np.ndarray:
    """bool[d]: whose map depends on the statistics."""
    return np.repeat([_scaled(key) for key in self.keys],
                     [key.dims for key in self.keys])

  def apply(self, x: np.ndarray) -> np.ndarray:
    """float[..., d] in physical units -> normalised float32[..., d]."""
    return self._map(x, self._apply_key)

  def undo(self, y: np.ndarray) -> np.ndarray:
    """Inverse of `apply` (of what it did not clip or round)."""
    return self._map(y, self._undo_key)

  def to_json(self) -> dict[str, Any]:
    """Plain values, for checkpoints."""
    return {"keys": [dataclasses.asdict(key) for key in self.keys],
            "statistics": self.statistics.to_json(),
            "binary_low": self.binary_low, "zero_range": self.zero_range}

  @classmethod
  def from_json(cls, value: dict[str, Any]) -> "Normalizer":
    """Inverse of `to_json`."""
    return cls(tuple(types.Key(**key) for key in value["keys"]),
               Statistics.from_json(value["statistics"]),
               value["binary_low"], value.get("zero_range", "groot"))

  def _map(self, x, function) -> np.ndarray:
    x = np.asarray(x, np.float64)
    width = sum(key.dims for key in self.keys)
    if x.shape[-1] != width:
      raise errors.DataError(
          f"Vectors of width {x.shape[-1]} do not fit keys of total width "
          f"{width}."
      )
    parts = [function(x[..., where], key, where)
             for key, where in self._slices()]
    return np.concatenate(parts, axis=-1).astype(np.float32)

  def _slices(self) -> Iterable[tuple[types.Key, slice]]:
    start = 0
    for key in self.keys:
      yield key, slice(start, start + key.dims)
      start += key.dims

  def _range(self, key, where) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of the linear map; mean_std has no range but a scale."""
    s = self.statistics
    if key.normalize == "q99":
      return s.q01[where], s.q99[where]
    if key.normalize == "mean_std":
      return s.mean[where], s.mean[where] + s.std[where]
    return s.min[where], s.max[where]

  def _line(self, key, where) -> tuple[np.ndarray, np.ndarray]:
    """(slope, offset) of the linear map by another project's rule."""
    low, high = self._range(key, where)
    span, unit, start = high - low, 2.0, -1.0
    if key.normalize == "mean_std":
      unit, start = 1.0, 0.0
    if self.zero_range == "diffusion_policy":
      still = span < 1e-4
      slope = np.where(still, 1.0, unit / np.where(still, 1.0, span))
      return slope, np.where(still, 0.0, start) - low * slope
    if self.zero_range == "openpi":
      slope = unit / (span + 1e-6)
    elif key.normalize == "mean_std":
      slope = unit / (span + 1e-8)
    else:
      slope = unit / np.where(span > 0, span, 1e-8)
    return slope, start - low * slope

  def _apply_key(self, x, key, where) -> np.ndarray:
    if key.kind == "binary":
      return np.where(x > 0.5, 1.0, self.binary_low)
    if not _scaled(key):
      return x / _half_turn(key)
    if self.zero_range != "groot":
      slope, offset = self._line(key, where)
      return slope * x + offset
    low, high = self._range(key, where)
    moves = high > low
    scale = np.where(moves, high - low, 1)
    if key.normalize == "mean_std":
      return np.where(moves, (x - low) / scale, x)
    y = 2 * (x - low) / scale - 1
    if key.normalize == "min_max":
      return np.where(moves, y, 0)
    return np.where(moves, np.clip(y, -1, 1), x)

  def _undo_key(self, y, key, where) -> np.ndarray:
    if key.kind == "binary":
      return np.where(y > (1 + self.binary_low) / 2, 1.0, 0.0)
    if not _scaled(key):
      return y * _half_turn(key)
    if self.zero_range != "groot":
      slope, offset = self._line(key, where)
      return (y - offset) / slope
    low, high = self._range(key, where)
    moves = high > low
    if key.normalize == "mean_std":
      return np.where(moves, y * (high - low) + low, y)
    x = (y + 1) / 2 * (high - low) + low
    return x if key.normalize == "min_max" else np.where(moves, x, y)


def _scaled(key: types.Key) -> bool:
  """Whether the key's map depends on statistics."""
  if key.normalize not in ("min_max", "q99", "mean_std", "identity"):
    raise errors.DataError(
        f"Key {key.name!r} has the unknown normalisation {key.normalize!r}; "
        "have: min_max, q99, mean_std, identity."
    )
  return key.kind == "position" and key.normalize != "identity"


def _half_turn(key: types.Key) -> float:
  if key.kind not in ("angle", "rotation") or key.normalize == "identity":
    return 1.0
  if key.unit not in _HALF_TURN:
    raise errors.DataError(
        f"The angle {key.name!r} must be in rad or deg, not {key.unit!r}."
    )
  return _HALF_TURN[key.unit]
