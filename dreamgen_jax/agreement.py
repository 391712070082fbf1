"""How well labels match recorded actions, and what their spread is worth.

Plain numpy, over steps f32[n,a]; what has no label (NaN) does not count.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dreamgen_jax import types
from dreamgen_jax.data import rotation

COLUMNS = ("group", "key", "episodes", "steps", "mae", "rmse", "r2", "accuracy",
           "f1", "drift", "within_1", "within_2", "warning")
Pair = tuple[Any, Any]  # an episode as recorded, the same as labelled
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
    {"r2", "rmse", "mae": {dimension: value}, "accuracy", "f1": of binary keys,
    "r2_key": {key: value}, of its dimensions together}. R2 is 1 at best, 0 for
    the mean of the truth, and not there for what never moves. F1 is of the
    rarer of both values.
  """
  result: dict[str, dict[str, float]] = {
      name: {} for name in ("r2", "rmse", "mae", "accuracy", "f1", "r2_key")}
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
  start = 0
  for key in keys:
    where = slice(start, start + key.dims)
    start += key.dims
    total = np.sum((truth[:, where] - truth[:, where].mean(axis=0)) ** 2)
    if key.kind != "binary" and np.ptp(truth[:, where], axis=0).any():
      result["r2_key"][key.name] = float(
          1 - np.sum(error[:, where] ** 2) / total)
  return result


def coverage(truth: np.ndarray, found: np.ndarray, spread: np.ndarray,
             keys: Sequence[types.Key],
             spreads: Sequence[float] = (1, 2)) -> dict[str, list[float]]:
  """Share of steps whose error is at most so many spreads, by dimension.

  One spread covers 68 % and two 95 % where errors are normal and the spread
  their deviation. Binary keys are left out.
  """
  known = np.isfinite(found).all(axis=1) & np.isfinite(truth).all(axis=1)
  error = np.abs(difference(truth[known], found[known], keys))
  return {name: [float(np.mean(error[:, i] <= z * spread[known][:, i]))
                 for z in spreads]
          for i, key, name in _dimensions(keys) if key.kind != "binary"}


def calibration(truth: np.ndarray, found: np.ndarray, spread: np.ndarray,
                keys: Sequence[types.Key]) -> list[float]:
  """What to multiply the spread by, per dimension, so that one covers 68 %.

  1 for binary keys, and for what has no spread.
  """
  known = np.isfinite(found).all(axis=1) & np.isfinite(truth).all(axis=1)
  error = np.abs(difference(truth[known], found[known], keys))
  factors = []
  for i, key, _ in _dimensions(keys):
    some = spread[known][:, i] > 0
    factors.append(float(np.quantile(
        error[some, i] / spread[known][some, i], 0.6827))
        if key.kind != "binary" and some.any() else 1.0)
  return factors


def warning(truth: np.ndarray, found: np.ndarray, spread: np.ndarray,
            keys: Sequence[types.Key]) -> dict[str, float]:
  """Rank correlation of |error| and spread, by dimension: 1 is a good warner.
  """
  known = np.isfinite(found).all(axis=1) & np.isfinite(truth).all(axis=1)
  error = np.abs(difference(truth[known], found[known], keys))
  return {name: _rank_correlation(error[:, i], spread[known][:, i])
          for i, key, name in _dimensions(keys) if key.kind != "binary"}


def liveliest(truth: np.ndarray, most: int) -> list[int]:
  """The dimensions that move most, in their order; of such as move alike, one.

  Args:
    truth: f32[n,a].
    most: how many at most.
  """
  moved = np.nan_to_num(truth - np.nanmean(truth, axis=0))
  size = np.linalg.norm(moved, axis=0)
  alone = moved / np.maximum(size, 1e-9)
  chosen: list[int] = []
  for i in np.argsort(-size, kind="stable").tolist():
    alike = np.abs(alone[:, chosen].T @ alone[:, i]) > 0.999
    if len(chosen) < most and not alike.any():
      chosen.append(i)
  return sorted(chosen)


def drift(truth: np.ndarray, found: np.ndarray,
          keys: Sequence[types.Key]) -> np.ndarray:
  """How far off a robot is that runs the labels blindly, float64[n,a].

  The error of an absolute key is that of its step; those of a relative key add
  up from the episode's start.
  """
  error = difference(truth, found, keys)
  relative = np.repeat([not key.absolute for key in keys],
                       [key.dims for key in keys])
  return np.where(relative, np.cumsum(error, axis=0), error)


def table(group: str, pairs: Sequence[Pair],
          keys: Sequence[types.Key]) -> list[dict[str, Any]]:
  """All of the above for a group of episodes: a row of COLUMNS per dimension.

  What a dimension has no value for is absent. "drift" is the root mean square
  of that, "within_1" and "within_2" are the coverage of one and two spreads.
  """
  truth, found, spread = stack(pairs)
  metrics = agreement(truth, found, keys)
  del metrics["r2_key"]  # no dimension's
  off = np.concatenate([drift(a.action, b.action, keys) for a, b in pairs])
  metrics["drift"] = dict(zip(
      names(keys), np.sqrt(np.nanmean(off**2, axis=0)).tolist(), strict=True))
  covered = coverage(truth, found, spread, keys)
  metrics["within_1"] = {name: one for name, (one, _) in covered.items()}
  metrics["within_2"] = {name: two for name, (_, two) in covered.items()}
  metrics["warning"] = warning(truth, found, spread, keys)
  return [
      {"group": group, "key": name, "episodes": len(pairs),
       "steps": len(truth)} | {
           column: values[name] for column, values in metrics.items()
           if name in values}
      for name in names(keys)]


def stack(pairs: Sequence[Pair]
          ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(recorded actions, labels, spread) of episodes behind each other."""
  return (np.concatenate([real.action for real, _ in pairs]),
          np.concatenate([found.action for _, found in pairs]),
          np.concatenate([found.spread for _, found in pairs]))


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
