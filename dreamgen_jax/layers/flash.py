"""Attention on TPUs, in Pallas: no logits in HBM, forwards or backwards.

After FlashAttention-2 (arXiv 2307.08691). Three things are done otherwise than
in the kernels that come with JAX:

  The backward pass is one kernel of five matrix products a block, not two of
  seven together: a head's query gradient stays in VMEM while its keys pass by.
  Heads are parallel in it too, so that both TensorCores of a v4 or v5p work.
  Nothing masks: the keys that fill up the last block repeat the first key and
  have the value zero, and their share is taken out of the normaliser once, at
  the end.

Softmax has base 2 inside: queries carry the factor log2(e) with their scale.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128
_LOW = -1e30  # below every logit, and finite
_LOG2_E = math.log2(math.e)
_NT = (((1,), (1,)), ((), ()))  # x y^T
_TN = (((0,), (0,)), ((), ()))  # x^T y


@dataclasses.dataclass(frozen=True)
class Tuning:
  """Sizes that suit one generation of TPUs.

  Attributes:
    forward, backward: (queries, keys) of a block in either pass.
    chunk: keys of a block that are worked on at once.
    queries: at most so many in one call of the backward pass; their gradient
      is held in VMEM, 768 bytes each.
    vmem: bytes of VMEM that a kernel may use.
  """

  forward: tuple[int, int]
  backward: tuple[int, int]
  chunk: int
  queries: int
  vmem: int


_SMALL = Tuning((512, 512), (512, 512), 512, 4_096, 15 << 20)
TUNING = {
    "v4": _SMALL,
    "v5p": Tuning((2048, 2048), (1024, 1024), 1024, 32_768, 63 << 20),
    "v5e": Tuning((2048, 2048), (1024, 1024), 1024, 65_536, 120 << 20),
    "v6e": Tuning((2048, 2048), (1024, 1024), 1024, 65_536, 120 << 20),
}


def tuning() -> Tuning:
  """Of the TPU that a program is being compiled for."""
  device = jax.sharding.get_abstract_mesh().abstract_device
  kind = (device or jax.devices()[0]).device_kind
  for names, generation in ((("v6",), "v6e"), (("v5 lite", "v5e"), "v5e"),
                            (("v5",), "v5p")):
    if any(name in kind.lower() for name in names):
      return TUNING[generation]
  return _SMALL


def forward(q: jax.Array, k: jax.Array, v: jax.Array, scale: float, *,
            tuned: Tuning | None = None, interpret: Any = False
            ) -> tuple[jax.Array, jax.Array]:
  """Softmax attention; logits and softmax in float32.

  Args:
    q: [n, l, k]; k a multiple of `LANES`, or less.
    k, v: [n, m, k].
    scale: of the logits.
    tuned: block sizes; None takes those of the machine's TPU.
    interpret: runs without a TPU, slowly (`pallas_call`).

  Returns:
    ([n, l, k] in v's dtype, logarithms of the normalisers f32[n, l]).
  """
  tuned = tuned or tuning()
  (n, length, dim), keys = q.shape, k.shape[1]
  rows, columns = _blocks(tuned.forward, length, keys)
  chunk = math.gcd(tuned.chunk, columns)
  q = _scaled(q, scale, rows)
  k, v = _filled(k, v, columns)
  # Heads and their blocks in one axis, which two cores share evenly.
  blocks = q.shape[1] // rows
  by_query = pl.BlockSpec((None, rows, q.shape[2]),
                          lambda i, j: (i // blocks, i % blocks, 0))
  by_key = pl.BlockSpec((None, columns, q.shape[2]),
                        lambda i, j: (i // blocks, j, 0))
  out, normaliser = pl.pallas_call(
      functools.partial(_forward, chunk=chunk, extra=k.shape[1] - keys),
      grid=(n * blocks, k.shape[1] // columns),
      in_specs=[by_query, by_key, by_key],
      out_specs=[by_query, pl.BlockSpec(
          (None, 1, rows), lambda i, j: (i // blocks, 0, i % blocks))],
      out_shape=[jax.ShapeDtypeStruct(q.shape, v.dtype),
                 jax.ShapeDtypeStruct((n, 1, q.shape[1]), jnp.float32)],
      scratch_shapes=[pltpu.VMEM((rows, LANES), jnp.float32),
                      pltpu.VMEM((rows, LANES), jnp.float32),
                      pltpu.VMEM((rows, q.shape[2]), jnp.float32)],
      compiler_params=_parameters(tuned, "parallel", "arbitrary"),
      cost_estimate=_cost(2, n, q.shape[1], k),
      name="flash_forward", interpret=interpret)(q, k, v)
  return out[:, :length, :dim], normaliser[:, 0, :length] / _LOG2_E


def _forward(q, k, v, out, normaliser, top, total, sums, *, chunk, extra):
  """One block of queries (outer) with one of keys (inner)."""
  step, last = pl.program_id(1), pl.num_programs(1) - 1

  @pl.when(step == 0)
  def _():
    top[...] = jnp.full_like(top, _LOW)
    total[...] = jnp.zeros_like(total)
    sums[...] = jnp.zeros_like(sums)

  for i in range(k.shape[0] // chunk):
    at = pl.ds(i * chunk, chunk)
    logits = _dot(q[...], k[at], _NT)  # l m
    now = jnp.maximum(top[...], jnp.max(logits, axis=1, keepdims=True))
    weights = jnp.exp2(logits - _wide(now, chunk))
    fade = jnp.exp2(top[...] - now)
    top[...] = now
    total[...] = fade * total[...] + jnp.sum(weights, axis=1, keepdims=True)
    sums[...] = _wide(fade, sums.shape[1]) * sums[...] + _dot(
        weights.astype(v.dtype), v[at])

  @pl.when(step == last)
  def _():
    # If keys fill up, the last one is such a key.
    whole = total[...] - extra * weights[:, -1:]
    out[...] = (sums[...] / _wide(whole, sums.shape[1])).astype(out.dtype)
    normaliser[...] = (top[...] + jnp.log2(whole)).T[:1]


def backward(q: jax.Array, k: jax.Array, v: jax.Array, out: jax.Array,
             normaliser: jax.Array, change: jax.Array, scale: float, *,
             tuned: Tuning | None = None, interpret: Any = False
             ) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Gradients of `forward` for q, k and v, given `change`, that for `out`."""
  tuned = tuned or tuning()
  inner = jnp.sum(
      out.astype(jnp.float32) * change.astype(jnp.float32), axis=-1)  # n l
  part = functools.partial(
      _backward_part, k=k, v=v, scale=scale, tuned=tuned, interpret=interpret)
  length = q.shape[1]
  size = -(-length // -(-length // tuned.queries))  # equal parts
  parts = [part(*(x[:, at:at + size] for x in (q, change, normaliser, inner)))
           for at in range(0, length, size)]
  dq, dk, dv = zip(*parts, strict=True)
  return jnp.concatenate(dq, axis=1), sum(dk[1:], dk[0]), sum(dv[1:], dv[0])


def _backward_part(q, change, normaliser, inner, *, k, v, scale, tuned,
                   interpret):
  (n, length, dim), keys = q.shape, k.shape[1]
  rows, columns = _blocks(tuned.backward, length, keys)
  q, change = _scaled(q, scale, rows), _pad(change, rows)
  more = q.shape[1] - length
  normaliser, inner = (jnp.pad(x, ((0, 0), (0, more)))[:, None]
                       for x in (normaliser * _LOG2_E, inner))
  filled_k, filled_v = _filled(k, v, columns)
  wide, tall = q.shape[2], filled_k.shape[1]
  by_query = pl.BlockSpec((None, rows, wide), lambda n, i, j: (n, j, 0))
  by_key = pl.BlockSpec((None, columns, wide), lambda n, i, j: (n, i, 0))
  of_query = pl.BlockSpec((None, 1, rows), lambda n, i, j: (n, 0, j))
  accumulator = pltpu.VMEM((columns, wide), jnp.float32)
  dq, dk, dv = pl.pallas_call(
      functools.partial(_backward, keys=keys, scale=scale,
                        chunk=math.gcd(tuned.chunk, columns)),
      grid=(n, tall // columns, q.shape[1] // rows),
      in_specs=[by_query, by_key, by_key, by_query, of_query, of_query],
      out_specs=[pl.BlockSpec((None, q.shape[1], wide),
                              lambda n, i, j: (n, 0, 0)), by_key, by_key],
      out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype)
                 for x in (q, filled_k, filled_v)],
      scratch_shapes=[pltpu.VMEM((q.shape[1], wide), jnp.float32),
                      accumulator, accumulator,
                      pltpu.VMEM((columns, wide), k.dtype)],
      compiler_params=_parameters(tuned, "parallel", "arbitrary", "arbitrary"),
      cost_estimate=_cost(5, n, q.shape[1], filled_k),
      name="flash_backward", interpret=interpret,
  )(q, filled_k, filled_v, change, normaliser, inner)
  return dq[:, :length, :dim], dk[:, :keys, :dim], dv[:, :keys, :dim]


def _backward(q, k, v, change, normaliser, inner, dq, dk, dv, dq_sum, dk_sum,
              dv_sum, true_k, *, keys, scale, chunk):
  """One block of keys (outer) with one of queries (inner); logits are [m, l].
  """
  step, last = pl.program_id(2), pl.num_programs(2) - 1
  block, last_block = pl.program_id(1), pl.num_programs(1) - 1

  @pl.when(step == 0)
  def _():
    dk_sum[...] = jnp.zeros_like(dk_sum)
    dv_sum[...] = jnp.zeros_like(dv_sum)
    # Keys that fill up move no query.
    row = block * k.shape[0] + jax.lax.broadcasted_iota(
        jnp.int32, k.shape, 0)
    true_k[...] = jnp.where(row < keys, k[...], jnp.zeros_like(k[...]))

  moved = None
  for i in range(k.shape[0] // chunk):
    at = pl.ds(i * chunk, chunk)
    logits = _dot(k[at], q[...], _NT)  # m l
    weights = jnp.exp2(logits - normaliser[...])
    dv_sum[at] += _dot(weights.astype(v.dtype), change[...])
    slope = weights * (_dot(v[at], change[...], _NT) - inner[...])
    slope = slope.astype(q.dtype)
    dk_sum[at] += _dot(slope, q[...])
    more = _dot(slope, true_k[at], _TN)  # l k
    moved = more if moved is None else moved + more

  at = pl.ds(step * q.shape[0], q.shape[0])
  before = jnp.where(block == 0, 0.0, dq_sum[at])
  dq_sum[at] = before + moved

  @pl.when(step == last)
  def _():
    dk[...] = (dk_sum[...] / _LOG2_E).astype(dk.dtype)
    dv[...] = dv_sum[...].astype(dv.dtype)

  @pl.when(block == last_block)
  def _():
    dq[at] = (dq_sum[at] * scale).astype(dq.dtype)


def _dot(x, y, dimensions=(((1,), (0,)), ((), ()))):
  return jax.lax.dot_general(
      x, y, dimensions, preferred_element_type=jnp.float32)


def _wide(x, columns):
  """[l, LANES], all columns alike -> [l, columns]."""
  if columns <= LANES:
    return x[:, :columns]
  return jnp.tile(x, (1, columns // LANES))


def _blocks(sizes, *lengths):
  """The sizes, or what holds shorter lengths."""
  return [min(size, -(-length // LANES) * LANES)
          for size, length in zip(sizes, lengths, strict=True)]


def _pad(x, block):
  """Zeros up to whole blocks of tokens, and lanes of the head dim."""
  return jnp.pad(x, ((0, 0), (0, -x.shape[1] % block),
                     (0, -x.shape[2] % LANES)))


def _scaled(q, scale, block):
  scaled = q.astype(jnp.float32) * (scale * _LOG2_E)
  return _pad(scaled.astype(q.dtype), block)


def _filled(k, v, block):
  """Keys up to whole blocks, the first again and again, of value zero."""
  more = -k.shape[1] % block
  if more:
    again = jnp.broadcast_to(k[:, :1], (k.shape[0], more, k.shape[2]))
    k = jnp.concatenate([k, again], axis=1)
  return _pad(k, block), _pad(v, block)


def _parameters(tuned, *semantics):
  return pltpu.CompilerParams(
      dimension_semantics=semantics, vmem_limit_bytes=tuned.vmem)


def _cost(products, n, length, k):
  size = n * length * k.shape[1]
  return pl.CostEstimate(
      flops=2 * products * size * k.shape[2], transcendentals=size,
      bytes_accessed=2 * products * n * (length + k.shape[1]) * k.shape[2])
