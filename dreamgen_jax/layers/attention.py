"""Attention: the one function that every network calls."""

import functools

import einops
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from dreamgen_jax.layers import blockwise, context, flash

# Names by which `layers.stack` keeps, or does not keep, for the backward pass.
INPUTS, RESULTS = "attention_inputs", "attention_results"


def attend(q: jax.Array, k: jax.Array, v: jax.Array,
           mask: jax.Array | None = None, *, bias: jax.Array | None = None,
           scale: float | None = None) -> jax.Array:
  """Softmax attention; logits and softmax in float32.

  Long sequences take what suits the platform, `flash` on TPUs and `blockwise`
  elsewhere, each device of a mesh its part (`context`).

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
  if mask is not None or bias is not None or q.shape[1] <= blockwise.BLOCK:
    return _plain(q, k, v, mask, bias, scale)
  q, k, v = _named(INPUTS, (q, k, v), q, k)
  return context.split(functools.partial(_long, scale), q, k, v)


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


def _long(scale, q, k, v):
  b = len(q)
  q, k, v = (einops.rearrange(x, "b l n k -> (b n) l k") for x in (q, k, v))
  return einops.rearrange(_heads(scale, q, k, v), "(b n) l k -> b l n k", b=b)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _heads(scale, q, k, v):
  """[n,l,k], [n,m,k], [n,m,k] -> [n,l,k], whatever the platform."""
  return _forward(scale, q, k, v)[0]


def _forward(scale, q, k, v):
  results = jax.lax.platform_dependent(
      q, k, v, tpu=functools.partial(flash.forward, scale=scale),
      default=functools.partial(blockwise.forward, scale=scale))
  out, normaliser = _named(RESULTS, results, q, k)
  return out, (q, k, v, out, normaliser)


def _named(name, values, q, k):
  """What attention to few keys is given and gives is not worth its memory."""
  if k.shape[1] < q.shape[1]:
    return values
  return tuple(checkpoint_name(value, name) for value in values)


def _backward(scale, kept, change):
  return jax.lax.platform_dependent(
      *kept, change, tpu=functools.partial(flash.backward, scale=scale),
      default=functools.partial(blockwise.backward, scale=scale))


_heads.defvjp(_forward, _backward)
