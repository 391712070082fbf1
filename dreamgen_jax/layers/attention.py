"""Attention: the one function that every network calls."""

import functools

import jax
import jax.numpy as jnp

from dreamgen_jax.layers import blockwise


def attend(q: jax.Array, k: jax.Array, v: jax.Array,
           mask: jax.Array | None = None, *, bias: jax.Array | None = None,
           scale: float | None = None) -> jax.Array:
  """Softmax attention; logits and softmax in float32.

  Args:
    q: [b, l, n, k].
    k, v: [b, m, n, k].
    mask: bool, broadcastable to [b, n, l, m]; False is not attended. A row
      that may attend to nothing attends to all alike.
    bias: added to the logits, broadcastable to [b, n, l, m].
    scale: of the logits; None is 1 / sqrt(head dim).

  Returns:
    [b, l, n, k] in v's dtype.
  """
  scale = q.shape[-1] ** -0.5 if scale is None else scale
  if mask is None and bias is None and q.shape[1] > blockwise.BLOCK:
    return jax.lax.platform_dependent(
        q, k, v, cpu=functools.partial(blockwise.attend, scale=scale),
        default=functools.partial(_plain, scale=scale))
  return _plain(q, k, v, mask, bias, scale)


def _plain(q, k, v, mask=None, bias=None, scale=1.0):
  logits = jnp.einsum("blnk,bmnk->bnlm", q, k,
                      preferred_element_type=jnp.float32)
  logits = logits if scale == 1 else logits * scale  # b n l m
  if bias is not None:
    logits = logits + bias.astype(jnp.float32)
  if mask is not None:
    logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
  weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
  return jnp.einsum("bnlm,bmnk->blnk", weights, v)  # b l n k
