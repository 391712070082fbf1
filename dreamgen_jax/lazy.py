"""Arrays of which the bytes are still in files, and are read when used."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

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
