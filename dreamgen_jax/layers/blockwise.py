"""Attention in blocks of queries: what CPUs are quick at.

The plain form writes all logits to memory, twice for the backward pass; here a
block of them stays in the cache, and the backward pass computes it again from
the softmax's normaliser (FlashAttention, arXiv 2205.14135, section 3.1).
"""

import functools

import einops
import jax
import jax.numpy as jnp

BLOCK = 256  # queries; their logits to 2048 keys fill 2 MB a head


def forward(q: jax.Array, k: jax.Array, v: jax.Array,
            scale: float) -> tuple[jax.Array, jax.Array]:
  """Softmax attention without a mask; logits and softmax in float32.

  Args:
    q: [n, l, k].
    k, v: [n, m, k].
    scale: of the logits.

  Returns:
    ([n, l, k] in v's dtype, logarithms of the normalisers f32[n, l]).
  """
  def block(q):
    logits = _dot("nlk,nmk->nlm", q, k) * scale
    top = jnp.max(logits, axis=-1, keepdims=True)
    weights = jnp.exp(logits - top)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    out = _dot("nlm,nmk->nlk", weights.astype(v.dtype), v) / total
    return out.astype(v.dtype), (top + jnp.log(total))[..., 0]

  out, normaliser = jax.lax.map(block, _split(q))
  length = q.shape[1]
  return _join(out)[:, :length], _join(normaliser)[:, :length]


def backward(q: jax.Array, k: jax.Array, v: jax.Array, out: jax.Array,
             normaliser: jax.Array, change: jax.Array, scale: float
             ) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Gradients of `forward` for q, k and v, given `change`, that for `out`."""
  inner = jnp.sum((out * change).astype(jnp.float32), axis=-1)

  def block(sums, rows):
    dk, dv = sums  # n k m: the way round in which the products are quick
    q, change, normaliser, inner = rows
    logits = _dot("nlk,nmk->nlm", q, k) * scale
    weights = jnp.exp(logits - normaliser[..., None])
    dv = dv + _dot("nlk,nlm->nkm", change, weights.astype(v.dtype))
    slope = _dot("nlk,nmk->nlm", change, v) - inner[..., None]
    slope = (weights * slope * scale).astype(q.dtype)
    dk = dk + _dot("nlk,nlm->nkm", q, slope)
    return (dk, dv), _dot("nlm,nmk->nlk", slope, k).astype(q.dtype)

  zeros = jnp.zeros(jnp.swapaxes(k, 1, 2).shape, jnp.float32)
  (dk, dv), dq = jax.lax.scan(
      block, (zeros, zeros),
      tuple(map(_split, (q, change, normaliser, inner))))
  dk, dv = (jnp.swapaxes(x, 1, 2).astype(k.dtype) for x in (dk, dv))
  return _join(dq)[:, :q.shape[1]], dk, dv


def _split(x):
  """[n, l, ...] -> blocks [i, n, BLOCK, ...], the last one with zeros."""
  more = [(0, 0)] * x.ndim
  more[1] = (0, -x.shape[1] % BLOCK)
  return einops.rearrange(jnp.pad(x, more), "n (i l) ... -> i n l ...", l=BLOCK)


def _join(x):
  return einops.rearrange(x, "i n l ... -> n (i l) ...")


_dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
