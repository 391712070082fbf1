"""Context parallelism: tokens lie on several devices; attention sees them all.

Around attention alone, devices exchange tokens for heads (DeepSpeed-Ulysses,
arXiv 2309.14509): each then attends with few heads to many tokens. Where there
are more devices than heads to part among them, groups of neighbours exchange,
and keys and values are gathered from group to group.
"""

import math
from collections.abc import Callable
from typing import Any

import jax

from dreamgen_jax import errors, sharding

AXIS = "context"
_FEW = 1024  # tokens that every device may just as well hold all of
P = jax.sharding.PartitionSpec


def local(function: Callable[..., jax.Array], *inputs: tuple[jax.Array, str]
          ) -> jax.Array:
  """Runs on each device's part what mixes neither tokens nor heads.

  Args:
    function: arrays -> one in the first one's shape.
    inputs: each with its shape letters.
  """
  on, values = sharding.active(), [value for value, _ in inputs]
  if on is None or on.size == 1:
    return function(*values)
  specs: Any = tuple(sharding.spec(value.shape, letters, on)
                     for value, letters in inputs)
  return jax.shard_map(function, in_specs=specs, out_specs=specs[0],
                       check_vma=False)(*values)


def split(attend: Callable[..., jax.Array], q: jax.Array, k: jax.Array,
          v: jax.Array) -> jax.Array:
  """Runs attention with each device's part of the mesh; no mesh, no effect.

  Args:
    attend: (q, k, v) -> [b, l, n, k].
    q: [b, l, n, k]; l is split over the axis "context".
    k, v: [b, m, n, k]; m is split likewise if it equals l, which is taken to
      be attention of tokens to themselves, and else whole.

  Raises:
    ConfigError: the tokens do not divide over the axis.
  """
  on = sharding.active()
  if on is None or on.size == 1:
    return attend(q, k, v)
  devices, length = on.shape[AXIS], q.shape[1]
  if length % devices and length > _FEW:
    fits = [n for n in range(1, devices + 1) if length % n == 0]
    raise errors.ConfigError(
        f"{length} tokens do not divide over config.mesh context = {devices}; "
        f"take one of {', '.join(map(str, fits))}.")
  rows, tokens, heads, _ = sharding.spec(q.shape, "b l n k", on)
  own = tokens is not None and k.shape[1] == length
  of_keys = P(rows, tokens if own else None, heads)
  run = _exchanging(attend, devices) if own and devices > 1 else attend
  return jax.shard_map(
      run, in_specs=(P(rows, tokens, heads), of_keys, of_keys),
      out_specs=P(rows, tokens, heads), check_vma=False)(q, k, v)


def _exchanging(attend, devices):
  """Attention of each device's tokens to those of all devices."""

  def run(q, k, v):
    size = math.gcd(devices, q.shape[2])
    inner = [list(range(start, start + size))
             for start in range(0, devices, size)]
    outer = [list(range(rank, devices, size)) for rank in range(size)]
    if size > 1:
      q, k, v = (jax.lax.all_to_all(
          x, AXIS, split_axis=2, concat_axis=1, axis_index_groups=inner,
          tiled=True) for x in (q, k, v))
    if size < devices:
      k, v = (jax.lax.all_gather(
          x, AXIS, axis=1, axis_index_groups=outer, tiled=True)
          for x in (k, v))
    out = attend(q, k, v)
    if size == 1:
      return out
    return jax.lax.all_to_all(
        out, AXIS, split_axis=1, concat_axis=2, axis_index_groups=inner,
        tiled=True)

  return run
