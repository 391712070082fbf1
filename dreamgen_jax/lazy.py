"""Arrays of which the bytes are still in files, and are read when used."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Array:
  """An array that is made anew whenever it is read."""

  shape: tuple[int, ...]
  dtype: np.dtype
  make: Callable[[], np.ndarray]

  @property
  def size(self) -> int:
    """Number of elements."""
    return math.prod(self.shape)

  def __array__(self, dtype=None, copy=None):
    del copy  # it is new in any case, or a view of a file
    return np.asarray(self.make(), dtype or self.dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Parameter:
  """A parameter of which the bytes are still in the released tensors.

  Attributes:
    shape, dtype: of the parameter, once it is read.
    sources: layer -> (`weights.Rule`, released tensor); the one key is None
      where the parameter is not a stack of layers.
  """

  shape: tuple[int, ...]
  dtype: np.dtype
  sources: Mapping[int | None, tuple[Any, Any]]

  @property
  def stacked(self) -> bool:
    """Whether the first axis counts layers."""
    return None not in self.sources

  def source(self, layer: int | None) -> np.ndarray:
    """A layer, or all of it, in our layout and the file's dtype; lazy."""
    rule, tensor = self.sources[layer]
    return rule.read(np.asarray(tensor))

  def read(self, index: tuple[slice, ...] = ()) -> np.ndarray:
    """The part that a device holds, or all of it, in memory."""
    index += (slice(None),) * (len(self.shape) - len(index))
    if not self.stacked:
      return np.array(self.source(None)[index], self.dtype, order="C")
    layers = range(self.shape[0])[index[0]]
    shape = np.broadcast_to(np.int8(0), self.shape)[index].shape
    out = np.empty(shape, self.dtype)
    for row, layer in enumerate(layers):
      out[row] = self.source(layer)[index[1:]]
    return out


def place(parameter: Parameter,
          sharding: jax.sharding.Sharding) -> jax.Array:
  """Fills this process's devices, each with no more than it holds.

  Host memory holds one layer's piece at a time.
  """
  shape, dtype = parameter.shape, parameter.dtype
  devices: dict[Any, list[Any]] = {}
  for device, index in sharding.addressable_devices_indices_map(shape).items():
    devices.setdefault(tuple(
        axis.indices(size)[:2] for axis, size
        in zip(index, shape, strict=True)), []).append(device)
  filled = []
  for ends, group in devices.items():
    index = tuple(slice(*both) for both in ends)
    if not parameter.stacked:
      piece = parameter.read(index)
      filled += [jax.device_put(piece, device) for device in group]
      continue
    held = tuple(stop - start for start, stop in ends)
    buffers = [jnp.zeros(held, dtype, device=device) for device in group]
    for row, layer in enumerate(range(*ends[0])):
      piece = parameter.read((slice(layer, layer + 1), *index[1:]))[0]
      buffers = [_set(buffer, jax.device_put(piece, device), row)
                 for buffer, device in zip(buffers, group, strict=True)]
      jax.block_until_ready(buffers)  # or pieces would queue up
    filled += buffers
  return jax.make_array_from_single_device_arrays(shape, sharding, filled)


_set = jax.jit(
    lambda buffer, piece, row: jax.lax.dynamic_update_index_in_dim(
        buffer, piece, row, 0), donate_argnums=0)
