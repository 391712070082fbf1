"""Mixes sources of samples in exact proportions, in a reproducible order."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from dreamgen_jax import errors, registry

_EPOCHS = 10**6  # plain `repeat()` overflows Grain's lengths


def mix(sources: Sequence[tuple[Any, float]], batch_size: int, seed: int,
        then: Callable[[dict], dict] | None = None,
        vary: Callable[[dict, np.random.Generator], dict] | None = None
        ) -> grain.MapDataset:
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
    vary: the same before, with a generator of the sample's own.

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
  if vary is not None:
    mixed = mixed.random_map(vary, seed=seed)
  return mixed if then is None else mixed.map(then)


def weights(datasets: Mapping[str, Any], given: Mapping[str, float] | None,
            shares: Mapping[str, float] | None) -> dict[str, float]:
  """How often each input of a stage is drawn, up to a common factor.

  Args:
    datasets: input -> what has a `weight` (its layout's) and an `embodiment`.
    given: input -> weight in place of its own; None changes none.
    shares: embodiment's name -> share of all samples, in which its inputs are
      drawn by their weights; None lets the weights decide alone.

  Raises:
    ConfigError: a weight of no input, an embodiment without a share, or a
      share without an input.
  """
  for name in given or ():
    if name not in datasets:
      raise errors.ConfigError(
          f"config.weights names {name!r}, which is no input; have: "
          f"{', '.join(datasets)}." + registry.nearest(name, list(datasets)))
  found = {name: float((given or {}).get(name, dataset.weight))
           for name, dataset in datasets.items()}
  if not shares:
    return found
  robots = {name: dataset.embodiment.name for name, dataset in datasets.items()}
  if set(robots.values()) != set(shares):
    raise errors.ConfigError(
        f"The inputs are of the embodiments {sorted(set(robots.values()))}; "
        f"config.shares is given for {sorted(shares)}.")
  total = dict.fromkeys(shares, 0.0)
  for name, weight in found.items():
    total[robots[name]] += weight
  return {name: shares[robots[name]] * weight / total[robots[name]]
          for name, weight in found.items()}


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
