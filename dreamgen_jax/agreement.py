"""How well labels match recorded actions, and what their spread is worth.

Plain numpy, over steps f32[n,a]; NaN labels do not count.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dreamgen_jax import types
from dreamgen_jax.data import rotation

_TURN = {"rad": 2 * np.pi, "deg": 360.0}


def names(keys: Sequence[types.Key]) -> list[str]:
  """One name per dimension: "eef_position[0]", "gripper_close"."""
  return [name for _, _, name in _dimensions(keys)]


def difference(truth: np.ndarray, found: np.ndarray,
           keys: Sequence[types.Key]) -> np.ndarray:
  """found - truth, float64[n,a]; angles and rotations the short way round."""
  out = np.asarray(found, np.float64) - truth
  start = 0
  for key in keys:
    where = slice(start, start + key.dims)
    start += key.dims
    if key.kind == "angle":
      turn = _TURN[key.unit]
      out[:, where] -= turn * np.round(out[:, where] / turn)
    elif key.kind == "rotation":
      out[:, where] = rotation.minus(found[:, where], truth[:, where])
  return out


def agreement(truth: np.ndarray, found: np.ndarray,
              keys: Sequence[types.Key]) -> dict[str, dict[str, float]]:
  """Metrics by name, each by dimension.

  Returns:
    {"r2", "rmse", "mae": {dimension: value}, "accuracy", "f1": of binary keys}.
    R2 is 1 at best, 0 for the mean of the truth, and not there for a dimension
    that never moves. F1 is of the rarer of both values.
  """
  result: dict[str, dict[str, float]] = {
      name: {} for name in ("r2", "rmse", "mae", "accuracy", "f1")}
  known = np.isfinite(found).all(axis=1) & np.isfinite(truth).all(axis=1)
  truth, found = truth[known], found[known]
  error = difference(truth, found, keys)
  for i, key, name in _dimensions(keys):
    a, b, e = truth[:, i], found[:, i], error[:, i]
    if key.kind == "binary":
      result["accuracy"][name] = float(np.mean((a > 0.5) == (b > 0.5)))
      result["f1"][name] = _f1(a > 0.5, b > 0.5)
      continue
    total = np.sum((a - a.mean()) ** 2)
    result["rmse"][name] = float(np.sqrt(np.mean(e**2)))
    result["mae"][name] = float(np.mean(np.abs(e)))
    if np.ptp(a):
      result["r2"][name] = float(1 - np.sum(e**2) / total)
  return result


def calibration(truth: np.ndarray, found: np.ndarray, spread: np.ndarray,
                keys: Sequence[types.Key]) -> dict[str, Any]:
  """Whether one standard deviation says how far off a label is.

  Returns:
    {"within_1", "within_2": {dimension: share of steps whose error is at most
    one or two spreads} (0.68 and 0.95 for normal errors), "correlation":
    {dimension: of ranks of |error| and spread}}, without binary keys.
  """
  result: dict[str, Any] = {
      "within_1": {}, "within_2": {}, "correlation": {}}
  known = np.isfinite(found).all(axis=1) & np.isfinite(truth).all(axis=1)
  error = np.abs(difference(truth[known], found[known], keys))
  for i, key, name in _dimensions(keys):
    if key.kind != "binary":
      e, s = error[:, i], spread[known][:, i]
      result["within_1"][name] = float(np.mean(e <= s))
      result["within_2"][name] = float(np.mean(e <= 2 * s))
      result["correlation"][name] = _rank_correlation(e, s)
  return result


def _dimensions(keys: Sequence[types.Key]
                ) -> Iterator[tuple[int, types.Key, str]]:
  index = 0
  for key in keys:
    for i in range(key.dims):
      yield index, key, f"{key.name}[{i}]" if key.dims > 1 else key.name
      index += 1


def _f1(truth: np.ndarray, found: np.ndarray) -> float:
  if truth.mean() > 0.5:
    truth, found = ~truth, ~found
  hits = np.sum(truth & found)
  total = truth.sum() + found.sum()
  return float(2 * hits / total) if total else 1.0


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
  """Spearman's; 0 where one of them never changes."""
  if np.ptp(a) == 0 or np.ptp(b) == 0:
    return 0.0
  return float(np.corrcoef(np.argsort(np.argsort(a)),
                           np.argsort(np.argsort(b)))[0, 1])
