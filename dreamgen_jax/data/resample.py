"""From one rate to another: frames by nearest neighbour, vectors by kind."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from dreamgen_jax import errors, types
from dreamgen_jax.data import rotation

_PERIOD = {"rad": 2 * math.pi, "deg": 360.0}
_EPSILON = 1e-6  # of a step; keeps 0.1 * 30 from falling short of 3


def nearest_frames(num_frames: int, from_hz: float,
                   to_hz: float) -> np.ndarray:
  """Frames of a video at `from_hz` that show it at `to_hz`, i64[frames].

  The result spans the same time, from the first frame to the last one at
  most; frame i of it is the one nearest to i / to_hz seconds.
  """
  _check(from_hz, to_hz)
  count = math.floor((num_frames - 1) * to_hz / from_hz + _EPSILON) + 1
  indices = np.floor(np.arange(count) * (from_hz / to_hz) + 0.5 + _EPSILON)
  return np.minimum(indices.astype(np.int64), num_frames - 1)


def vectors(values: np.ndarray, keys: Sequence[types.Key], from_hz: float,
            to_hz: float) -> np.ndarray:
  """Resamples states or actions float[n, d] to another rate, float32[n', d].

  Absolute positions are interpolated linearly, angles and rotations along the
  shorter arc; binary values hold until the next sample. Relative keys are
  displacements of one step: they are split and summed, so that the way
  travelled stays equal (of rotations, where the steps are small).

  Raises:
    DataError: the keys do not add up to d, or an angle without rad or deg.
  """
  _check(from_hz, to_hz)
  values = np.asarray(values)
  width = sum(key.dims for key in keys)
  if values.ndim != 2 or values.shape[1] != width or not len(values):
    raise errors.DataError(
        f"Cannot resample an array of shape {list(values.shape)} by keys of "
        f"total width {width}."
    )
  n = len(values)
  count = math.floor((n - 1) * to_hz / from_hz + _EPSILON) + 1
  return _columns(values, keys, np.arange(count) * (from_hz / to_hz),
                  from_hz / to_hz)


def between(values: np.ndarray, keys: Sequence[types.Key], times: np.ndarray,
            wanted: np.ndarray) -> np.ndarray:
  """Absolute vectors float[n, d] of some times, at others: float32[n', d].

  As `vectors`, for samples that are not evenly apart; `times` ascend, and
  beyond them the first and last value hold.
  """
  at = np.interp(wanted, times, np.arange(len(times)))
  keys = [dataclasses.replace(key, absolute=True) for key in keys]
  return _columns(values, keys, at, 1.0)


def to_clock(episode: types.Episode, clock: types.Clock,
             embodiment: types.Embodiment) -> types.Episode:
  """The same episode at other rates; doubts are carried as absolute values.

  Raises:
    DataError: the episode's widths do not fit the embodiment.
  """
  old = episode.clock

  def rows(values, keys):
    if values is None or old.control_hz == clock.control_hz:
      return values
    return vectors(values, keys, old.control_hz, clock.control_hz)

  spreads = [
      dataclasses.replace(key, kind="position", absolute=True)
      for key in embodiment.action
  ]
  return dataclasses.replace(
      episode,
      video={
          camera: frames[
              nearest_frames(len(frames), old.video_hz, clock.video_hz)
          ]
          for camera, frames in episode.video.items()
      },
      state=rows(episode.state, embodiment.state),
      action=rows(episode.action, embodiment.action),
      spread=rows(episode.spread, spreads),
      disagreement=rows(episode.disagreement, spreads),
      clock=clock,
  )


def _columns(values, keys, at, step) -> np.ndarray:
  """`_column` of every key, float32."""
  columns, start = [], 0
  for key in keys:
    columns.append(_column(values[:, start:start + key.dims], key, at, step))
    start += key.dims
  return np.concatenate(columns, axis=1).astype(np.float32)


def _column(part, key, at, step) -> np.ndarray:
  """One key's values at the times `at`, `step` apart, both in old steps."""
  n = len(part)
  if key.kind == "binary":
    return part[np.floor(at + _EPSILON).astype(int)]
  if not key.absolute:
    way = np.concatenate([np.zeros_like(part[:1]), np.cumsum(part, axis=0)])
    ends = np.minimum(at + step, n)
    return _linear(way, ends) - _linear(way, at)
  if key.kind == "rotation":
    low = np.minimum(np.floor(at + _EPSILON).astype(int), n - 1)
    turn = rotation.minus(part[np.minimum(low + 1, n - 1)], part[low])
    return rotation.plus(
        part[low], np.clip(at - low, 0, 1)[:, None] * turn)
  if key.kind != "angle":
    return _linear(part, at)
  if key.unit not in _PERIOD:
    raise errors.DataError(
        f"The angle {key.name!r} must be in rad or deg, not {key.unit!r}."
    )
  period = _PERIOD[key.unit]
  turns = _linear(np.unwrap(part, axis=0, period=period), at)
  return (turns + period / 2) % period - period / 2


def _linear(values, at) -> np.ndarray:
  low = np.minimum(np.floor(at + _EPSILON).astype(int), len(values) - 1)
  high = np.minimum(low + 1, len(values) - 1)
  weight = np.clip(at - low, 0, 1)[:, None]
  mixed = values[low] * (1 - weight) + values[high] * weight
  # A missing neighbour must not blot out a sample that is hit exactly.
  return np.where(weight < _EPSILON, values[low], mixed)


def _check(from_hz, to_hz) -> None:
  if not (from_hz > 0 and to_hz > 0):
    raise errors.DataError(
        f"Rates must be positive, not {from_hz} and {to_hz} Hz."
    )
