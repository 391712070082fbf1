"""Rotary embedding of neighbouring pairs on TPUs, in Pallas.

Lanes are 128 to a register, and pairs in a last axis of two make XLA copy an
activation a dozen times. Here it is read once and written once, head by head,
in the order in which attention wants it.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

_ROWS = 1024  # tokens of a block


def fits(x: jax.Array, cos: jax.Array) -> bool:
  """Whether heads fill whole registers, and all samples turn alike."""
  return x.shape[-1] % 128 == 0 and cos.ndim == 2


def turn(x: jax.Array, cos: jax.Array, sin: jax.Array, *,
         interpret: Any = False) -> jax.Array:
  """Turns each pair of neighbours (2i, 2i + 1) of x [b,l,n,k] by angle i.

  Args:
    x: [b, l, n, k].
    cos, sin: f32[l, k / 2].
    interpret: runs without a TPU, slowly (`pallas_call`).
  """
  b, length, heads, dim = x.shape
  rows = min(_ROWS, -(-length // 16) * 16)
  even = jnp.arange(dim) % 2 == 0
  cos, sin = (jnp.repeat(y, 2, axis=-1) for y in (cos, sin))  # l k
  tables = (cos, jnp.where(even, -sin, 0), jnp.where(even, 0, sin))
  table = pl.BlockSpec((rows, dim), lambda b, i, n: (i, 0))
  y = pl.pallas_call(
      _turn, grid=(b, pl.cdiv(length, rows), heads),
      in_specs=[pl.BlockSpec((None, rows, dim), lambda b, i, n: (b, i, n)),
                table, table, table],
      out_specs=pl.BlockSpec((None, None, rows, dim),
                             lambda b, i, n: (b, n, i, 0)),
      out_shape=jax.ShapeDtypeStruct((b, heads, length, dim), x.dtype),
      compiler_params=pltpu.CompilerParams(dimension_semantics=(
          "arbitrary", "parallel", "arbitrary")),
      name="rope_turn", interpret=interpret)(
          x.reshape(b, length, heads * dim), *tables)  # b n l k
  return jnp.swapaxes(y, 1, 2)  # b l n k


def _turn(x, cos, of_next, of_last, y):
  now = x[...].astype(jnp.float32)
  dim = now.shape[-1]
  after, before = pltpu.roll(now, dim - 1, 1), pltpu.roll(now, 1, 1)
  y[...] = (now * cos[...] + after * of_next[...] + before * of_last[...]
            ).astype(y.dtype)
