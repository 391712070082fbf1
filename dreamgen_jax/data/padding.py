"""Chunks of actions that reach past an episode's ends, or over missing labels.
"""

from collections.abc import Sequence

import numpy as np

from dreamgen_jax import types


def pad_chunk(values: np.ndarray, keys: Sequence[types.Key], start: int,
              horizon: int) -> np.ndarray:
  """Rows start .. start + horizon of float[n, d], padded past both ends.

  Absolute keys repeat the first or last row, relative ones are zero there
  (as in GR00T's loader).
  """
  wanted = np.arange(start, start + horizon)
  inside = np.clip(wanted, 0, len(values) - 1)
  out = values[inside]
  outside = wanted != inside
  absolute = np.repeat([key.absolute for key in keys],
                       [key.dims for key in keys])
  out[np.ix_(outside, ~absolute)] = 0
  return out


def chunk(action: types.Array, keys: Sequence[types.Key], start: int,
          horizon: int, normalizer=None) -> tuple[np.ndarray, np.ndarray]:
  """(action f32[u,a], mask bool[u,a]); NaN labels become zero and masked."""
  values = pad_chunk(action, keys, start, horizon)  # u a
  mask = np.isfinite(values)
  values = np.where(mask, values, 0)
  if normalizer is not None:
    values = np.where(mask, normalizer.apply(values), 0)
  return values.astype(np.float32), mask
