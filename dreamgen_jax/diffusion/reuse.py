"""Steps of sampling at which a network's blocks are not run (MagCache).

Source: arXiv 2506.09045. What the whole stack of blocks adds to its input
hardly turns from one step to the next, and its size changes by a ratio that
is the model's own, whatever the clip. So at some steps what was added last is
added again. Which steps those are follows from the ratios alone: it is decided
before sampling, on the host, and compiled.
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax import errors, types


@dataclasses.dataclass(frozen=True)
class Config:
  """When blocks are not run.

  Attributes:
    ratios: size of what the blocks add at each step over its size a step
      before, as `benchmarks.cache_quality` measures it; read off in between
      for another number of steps. None at all runs every block.
    threshold: how far the size may have moved from the last one computed, in
      sum over the steps without blocks.
    longest: such steps in a row, at most.
    head: share of the steps, from the first one, that always run the blocks.
    scaled: multiply what is added again by the ratios since; the paper does
      not.
  """

  ratios: tuple[float, ...] = ()
  threshold: float = 0.12
  longest: int = 2
  head: float = 0.2
  scaled: bool = False

  def __post_init__(self):
    object.__setattr__(self, "ratios", tuple(self.ratios))
    if any(ratio <= 0 for ratio in self.ratios):
      raise errors.ConfigError(
          f"reuse.ratios has {min(self.ratios)}; sizes have positive ratios.")


def plan(config: Config, calls: int,
         afresh: Collection[int] = ()) -> np.ndarray | None:
  """What to do at each network call.

  Args:
    config: see there.
    calls: of the network, in one run of a sampler.
    afresh: numbers of calls that must run the blocks, such as the first one
      of another expert.

  Returns:
    f64[calls], 0 where the blocks run, else the factor of what they added
    when they last ran; None where the config is off.
  """
  if not config.ratios:
    return None
  at = np.linspace(0, 1, calls)
  sizes = np.exp(np.interp(at, np.linspace(0, 1, len(config.ratios)),
                           np.cumsum(np.log(config.ratios))))
  first = max(1, round(config.head * calls))
  factors, last, moved = np.zeros(calls), 0, 0.0
  for call in range(1, calls):
    factor = sizes[call] / sizes[last]
    moved += abs(1 - factor)
    if (call < first or call in afresh or call - last > config.longest
        or moved > config.threshold):
      last, moved = call, 0.0
    else:
      factors[call] = factor if config.scaled else 1.0
  return factors


class Memory:
  """What blocks added last, over the calls of one run in one trace.

  It holds array references: `recall` and `keep` happen inside a sampler's
  scan, which carries them, and no sampler knows of it.
  """

  def __init__(self, factors: np.ndarray):
    """`factors`: of `plan`; enough zeros only measure, see `ratios`."""
    self._factors = jnp.asarray(factors, jnp.float32)
    self._like: Any = None
    self._call: Any = None
    self._added: Any = None
    self._ratios: Any = None

  def begin(self, run: Callable[["Memory"], Any]) -> None:
    """Finds out, by `run` with itself, what is to be kept, and makes room."""
    jax.eval_shape(lambda: run(self))
    self._call = jax.new_ref(jnp.zeros((), jnp.int32))
    self._ratios = jax.new_ref(jnp.ones_like(self._factors))
    self._added = jax.new_ref(jnp.zeros(self._like.shape, self._like.dtype))

  def recall(self, x: types.Array) -> tuple[types.Array, types.Array]:
    """(factor f32[], 0 to run the blocks; what they added last, like x)."""
    if self._call is None:  # nothing is kept yet: this is `begin`
      self._like = jax.ShapeDtypeStruct(x.shape, x.dtype)
      return jnp.zeros(()), jnp.zeros_like(x)
    return self._factors[self._call[...]], self._added[...]

  def keep(self, added: types.Array) -> None:
    """Ends a call, with what the blocks added at it or before, [b, l, d]."""
    if self._call is None:
      return
    call, before = self._call[...], self._added[...]
    sizes = [jnp.linalg.norm(x.astype(jnp.float32), axis=-1)
             for x in (added, before)]
    ratio = jnp.mean(sizes[0] / jnp.maximum(sizes[1], 1e-12))
    self._ratios[call] = jnp.where(call > 0, ratio, 1.0)
    self._added[...] = added
    self._call[...] = call + 1

  def ratios(self) -> tuple[types.Array, types.Array]:
    """After a run that skipped nothing: calls i32[], and `Config.ratios`,
    f32[factors], which end there.
    """
    return self._call[...], self._ratios[...]


def planned(config: Config, calls: int,
            afresh: Collection[int] = ()) -> Memory | None:
  """A memory that follows `plan`; None where the config is off."""
  factors = plan(config, calls, afresh)
  return None if factors is None else Memory(factors)


def remember(predict: Callable[..., types.Array], x: types.Array,
             memory: Memory | None) -> Callable[..., types.Array]:
  """Lets a network remember what its blocks added, from call to call.

  Args:
    predict: (x [b, ...], t, memory) -> prediction; what the transformer is
      given as `memory`.
    x: where sampling starts.
    memory: a new one, for this run; None gives the network none.

  Returns:
    (x, t) -> prediction, for a sampler.
  """
  if memory is not None:
    memory.begin(lambda memory: predict(x, jnp.float32(0), memory))
  return lambda x, t: predict(x, t, memory)
