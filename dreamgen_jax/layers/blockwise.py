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


def attend(q: jax.Array, k: jax.Array, v: jax.Array,
           scale: float) -> jax.Array:
  """Softmax attention without a mask; logits and softmax in float32.

  Args:
    q: [b, l, n, k].
    k, v: [b, m, n, k].
    scale: of the logits.

  Returns:
    [b, l, n, k] in v's dtype.
  """
  b, length = q.shape[:2]
  q = jnp.pad(q, ((0, 0), (0, -length % BLOCK), (0, 0), (0, 0)))
  q, k, v = (einops.rearrange(x, "b l n k -> (b n) l k") for x in (q, k, v))
  out = _attend(q, k, v, scale)
  return einops.rearrange(out, "(b n) l k -> b l n k", b=b)[:, :length]


def _split(x):
  return einops.rearrange(x, "n (i l) k -> i n l k", l=BLOCK)


def _join(x):
  return einops.rearrange(x, "i n l k -> n (i l) k")


_dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _attend(q, k, v, scale):
  """[n,l,k], [n,m,k], [n,m,k] -> [n,l,k]; l is a multiple of BLOCK."""
  return _forward(q, k, v, scale)[0]


def _forward(q, k, v, scale):
  def block(q):
    logits = _dot("nlk,nmk->nlm", q, k) * scale
    top = jnp.max(logits, axis=-1, keepdims=True)
    weights = jnp.exp(logits - top)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    out = _dot("nlm,nmk->nlk", weights.astype(v.dtype), v) / total
    return out.astype(v.dtype), top + jnp.log(total)

  out, normaliser = map(_join, jax.lax.map(block, _split(q)))
  return out, (q, k, v, out, normaliser)


def _backward(scale, kept, change):
  q, k, v, out, normaliser = kept
  inner = jnp.sum((out * change).astype(jnp.float32), axis=-1, keepdims=True)

  def block(sums, rows):
    dk, dv = sums
    q, change, normaliser, inner = rows
    weights = jnp.exp(_dot("nlk,nmk->nlm", q, k) * scale - normaliser)
    dv = dv + _dot("nlm,nlk->nmk", weights.astype(v.dtype), change)
    slope = _dot("nlk,nmk->nlm", change, v) - inner
    slope = (weights * slope * scale).astype(q.dtype)
    dk = dk + _dot("nlm,nlk->nmk", slope, q)
    return (dk, dv), _dot("nlm,nmk->nlk", slope, k).astype(q.dtype)

  zeros = [jnp.zeros(x.shape, jnp.float32) for x in (k, v)]
  (dk, dv), dq = jax.lax.scan(
      block, tuple(zeros),
      tuple(map(_split, (q, change, normaliser, inner))))
  return _join(dq), dk.astype(k.dtype), dv.astype(v.dtype)


_attend.defvjp(_forward, _backward)
