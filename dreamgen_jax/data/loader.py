"""The training loader: batches in an order that only the seed decides."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np

from dreamgen_jax import errors
from dreamgen_jax.data import memory, mix

_AHEAD = 512 << 20  # bytes
_GOLDEN = (5**0.5 - 1) / 2  # its multiples fill [0, 1) evenly at any time


class Loader:
  """An endless iterator of batches: name -> array with a leading batch axis.

  Text becomes a numpy array of strings. The order depends on seed and global
  batch size, not on threads, hosts or restarts.
  """

  def __init__(self, dataset: grain.MapDataset, batch_size: int, host: int,
               hosts: int, num_threads: int, prefetch: int):
    """See `loader`."""
    self._dataset, self._batch_size, self._next = dataset, batch_size, 0
    self._host, self._hosts = host, hosts
    self._num_threads, self._prefetch = num_threads, prefetch
    self._iterator: Any = None

  def __iter__(self) -> "Loader":
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    if self._iterator is None:
      mine = self._dataset[self._next + self._host::self._hosts]
      batches = _Batches(mine, self._batch_size // self._hosts)
      most = max(_AHEAD // batches.nbytes, 2)
      self._iterator = iter(batches.to_iter_dataset(grain.ReadOptions(
          num_threads=self._num_threads,
          prefetch_buffer_size=min(self._prefetch, most))))
    batch = next(self._iterator)
    self._next += self._batch_size
    return batch

  def get_state(self) -> dict[str, Any]:
    """Plain JSON; equal on all hosts."""
    return {"global_next_index": self._next}

  def set_state(self, state: dict[str, Any]) -> None:
    """Goes on where `get_state` was called, on any number of hosts."""
    self.close()
    self._next = state["global_next_index"]

  def close(self) -> None:
    """Stops the reading threads."""
    if self._iterator is not None:
      self._iterator.close()
      self._iterator = None


class _Batches(grain.MapDataset):
  """`size` samples after the other, stacked.

  Of Grain's own a tenth of a window's time was its copy into the batch: here
  the largest leaf, which is the video, is decoded where it belongs.
  """

  def __init__(self, parent: grain.MapDataset, size: int):
    super().__init__(parent)
    self._size = size

  def __len__(self) -> int:
    return len(self._parent) // self._size

  def __getitem__(self, index):
    if isinstance(index, slice):
      return self.slice(index)
    name, room = self._largest
    whole, samples = room.take(), []
    for i in range(self._size):
      place = whole[i, ...]
      with memory.lent(place):
        sample = dict(self._parent[index * self._size + i])
      leaf = sample.pop(name)
      if leaf is not place:
        # Something else may have been made there.
        sample = {key: np.array(value) for key, value in sample.items()}
        place[...] = leaf
      samples.append(sample)
    return {name: whole} | {
        key: np.stack([sample[key] for sample in samples])
        for key in samples[0]}

  @property
  def nbytes(self) -> int:
    """About a batch's."""
    return self._largest[1].nbytes

  @functools.cached_property
  def _largest(self) -> tuple[str, memory.Room]:
    leaves = {name: np.asarray(leaf) for name, leaf in self._parent[0].items()
              if not isinstance(leaf, str)}
    name = max(leaves, key=lambda each: leaves[each].nbytes)
    leaf = leaves[name]
    return name, memory.Room((self._size, *leaf.shape), leaf.dtype)


def loader(sources: Sequence[tuple[Any, float]], batch_size: int, seed: int, *,
           then: Callable[[dict], dict] | None = None,
           vary: Callable[[dict, np.random.Generator], dict] | None = None,
           host: int = 0, hosts: int = 1, num_threads: int = 2,
           prefetch: int = 16) -> Loader:
  """Batches of samples, mixed by weight.

  Args:
    sources: pairs of (random access source such as `windows.Clips`, weight);
      all give the same keys, shapes and dtypes.
    batch_size: over all hosts together.
    seed: decides the order.
    then: applied to each sample, e.g. to replace text by its embedding.
    vary: the same before, with a generator that seed and position decide.
    host, hosts: this process gets batch_size / hosts samples of each batch.
    num_threads, prefetch: reading threads, and batches that are read ahead,
      most of them while the first step is compiled, fewer where they are
      large; 0 threads read in the caller's.

  Raises:
    DataError: see `mix.mix`; or the batch does not divide by the hosts.
  """
  if batch_size < 1 or batch_size % hosts:
    raise errors.DataError(
        f"The batch size {batch_size} must be a multiple of the {hosts} "
        "hosts."
    )
  dataset = mix.mix(sources, batch_size, seed, then, vary)
  return Loader(dataset, batch_size, host, hosts, num_threads, prefetch)


class Buckets:
  """Batches of several loaders, whose samples differ in shape.

  Which one a batch is of follows from the seed and the batch's number alone.
  """

  def __init__(self, loaders: Sequence[Loader], weights: Sequence[float],
               seed: int):
    """`weights`: how often each of the loaders comes up."""
    self._loaders, self._count = list(loaders), 0
    self._begin = np.random.default_rng(seed).random()
    self._ends = np.cumsum(weights) / np.cumsum(weights)[-1]

  def __iter__(self) -> "Buckets":
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    place = (self._begin + self._count * _GOLDEN) % 1
    self._count += 1
    return next(self._loaders[
        int(np.searchsorted(self._ends, place, side="right"))])

  def get_state(self) -> dict[str, Any]:
    """As `Loader.get_state`."""
    return {"count": self._count,
            "loaders": [loader.get_state() for loader in self._loaders]}

  def set_state(self, state: dict[str, Any]) -> None:
    """As `Loader.set_state`."""
    self._count = state["count"]
    for loader, each in zip(self._loaders, state["loaders"], strict=True):
      loader.set_state(each)

  def close(self) -> None:
    """Stops the reading threads."""
    for loader in self._loaders:
      loader.close()


def bucketed(buckets: Sequence[Sequence[tuple[Any, float]]], batch_size: int,
             seed: int, *, then: Callable[[dict], dict] | None = None,
             host: int = 0, hosts: int = 1) -> Loader | Buckets:
  """Batches that are each of one bucket, as often as it has samples.

  Args:
    buckets: each one's pairs of (source, weight), as `loader` has them; shapes
      are the bucket's own.
    batch_size, seed, then, host, hosts: see `loader`.
  """
  loaders = [
      loader(sources, batch_size, seed, then=then, host=host, hosts=hosts)
      for sources in buckets]
  if len(loaders) == 1:
    return loaders[0]
  return Buckets(
      loaders, [sum(len(source) for source, _ in sources)
                for sources in buckets], seed)
