"""The training loader: batches in an order that only the seed decides."""

from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np

from dreamgen_jax import errors
from dreamgen_jax.data import mix


class Loader:
  """An endless iterator of batches: name -> array with a leading batch axis.

  Text becomes a numpy array of strings. The order depends on seed and global
  batch size, not on threads, hosts or restarts.
  """

  def __init__(self, dataset: grain.MapDataset, batch_size: int, host: int,
               hosts: int, num_threads: int, prefetch: int):
    """See `loader`."""
    self._iterator = iter(grain.experimental.ElasticIterator(
        dataset, batch_size,
        grain.sharding.ShardOptions(shard_index=host, shard_count=hosts),
        read_options=grain.ReadOptions(
            num_threads=num_threads, prefetch_buffer_size=prefetch),
    ))

  def __iter__(self) -> "Loader":
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    return next(self._iterator)

  def get_state(self) -> dict[str, Any]:
    """Plain JSON; equal on all hosts."""
    return self._iterator.get_state()

  def set_state(self, state: dict[str, Any]) -> None:
    """Goes on where `get_state` was called, on any number of hosts."""
    self._iterator.set_state(state)

  def close(self) -> None:
    """Stops the reading threads."""
    self._iterator.close()


def loader(sources: Sequence[tuple[Any, float]], batch_size: int, seed: int, *,
           then: Callable[[dict], dict] | None = None, host: int = 0,
           hosts: int = 1, num_threads: int = 2, prefetch: int = 4) -> Loader:
  """Batches of samples, mixed by weight.

  Args:
    sources: pairs of (random access source such as `windows.Clips`, weight);
      all give the same keys, shapes and dtypes.
    batch_size: over all hosts together.
    seed: decides the order.
    then: applied to each sample, e.g. to replace text by its embedding.
    host, hosts: this process gets batch_size / hosts samples of each batch.
    num_threads, prefetch: reading threads and samples in flight; 0 threads
      read in the caller's.

  Raises:
    DataError: see `mix.mix`; or the batch does not divide by the hosts.
  """
  if batch_size < 1 or batch_size % hosts:
    raise errors.DataError(
        f"The batch size {batch_size} must be a multiple of the {hosts} "
        "hosts."
    )
  dataset = mix.mix(sources, batch_size, seed, then)
  return Loader(dataset, batch_size, host, hosts, num_threads, prefetch)
