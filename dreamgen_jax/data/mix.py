"""Mixes sources of samples in exact proportions, in a reproducible order."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from dreamgen_jax import errors

_EPOCHS = 10**6  # plain `repeat()` overflows Grain's lengths


def mix(sources: Sequence[tuple[Any, float]], batch_size: int, seed: int,
        then: Callable[[dict], dict] | None = None) -> grain.MapDataset:
  """An endless random access dataset over all sources.

  Each source is shuffled anew in every epoch. Proportions are exact in every
  window of `batch_size` samples whose parts are whole numbers (1:1 in every
  even batch), and positions within a window are shuffled, so that hosts which
  take every k-th sample see all sources.

  Args:
    sources: pairs of (random access source such as `windows.Clips`, weight).
    batch_size: the global batch size.
    seed: decides the order, with nothing else.
    then: applied to each loaded sample.

  Raises:
    DataError: no source, an empty one, or weights that are not positive.
  """
  if not sources:
    raise errors.DataError("There is no source to load from.")
  for i, (source, weight) in enumerate(sources):
    if not len(source):
      raise errors.DataError(f"Source {i} of the mix is empty.")
    if not (math.isfinite(weight) and weight > 0):
      raise errors.DataError(
          f"Source {i} of the mix has weight {weight}; weights must be "
          "positive."
      )
  parts = [
      grain.MapDataset.source(source).seed(seed + i).shuffle().repeat(_EPOCHS)
      for i, (source, _) in enumerate(sources)
  ]
  mixed = parts[0]
  if len(parts) > 1:
    mixed = _ShuffledWindows(
        grain.MapDataset.mix(parts, [weight for _, weight in sources]),
        batch_size, seed)
  return mixed if then is None else mixed.map(then)


def by_embodiment(sources: Sequence[tuple[Any, float]],
                  shares: Mapping[str, float]) -> list[tuple[Any, float]]:
  """The same sources, weighted so that each embodiment has its share.

  Args:
    sources: pairs of (source with `episodes`, weight among its embodiment's).
    shares: embodiment's name -> share of all samples, up to a common factor.

  Raises:
    DataError: an embodiment without a share, or a share without a source.
  """
  names = [source.episodes.embodiment.name for source, _ in sources]
  if set(names) != set(shares):
    raise errors.DataError(
        f"The sources are of the embodiments {sorted(set(names))}; shares are "
        f"given for {sorted(shares)}.")
  total = dict.fromkeys(names, 0.0)
  for name, (_, weight) in zip(names, sources, strict=True):
    total[name] += weight
  return [(source, shares[name] * weight / total[name])
          for name, (source, weight) in zip(names, sources, strict=True)]


class _ShuffledWindows(grain.MapDataset):
  """Shuffles inside blocks of `size`.

  Grain's own takes milliseconds a sample where blocks are small.
  """

  def __init__(self, parent: grain.MapDataset, size: int, seed: int):
    super().__init__(parent)
    self._size, self._key = size, seed

  def __len__(self) -> int:
    return len(self._parent)

  def __getitem__(self, index):
    if isinstance(index, slice):
      return self.slice(index)
    block, place = divmod(index, self._size)
    order = np.random.default_rng([self._key, block]).permutation(self._size)
    return self._parent[block * self._size + int(order[place])]
