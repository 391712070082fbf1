"""Adaptive normalisation: a diffusion time shifts, scales and gates tokens.

Tokens come in g equal runs in a row (latent frames, say) that may each have a
time of their own; the runs' vectors are broadcast here, at the last moment.
"""

import einops
import jax

from dreamgen_jax.layers import broadcast


def shift_scale(x: jax.Array, shift: jax.Array, scale: jax.Array,
                dtype: str) -> jax.Array:
  """x (1 + scale) + shift, in the widest type given, then `dtype`.

  Args:
    x: [b, g l, d].
    shift, scale: [b, g, d].
    dtype: of the result.
  """
  y = einops.rearrange(x, "b (g l) d -> b g l d", g=shift.shape[1])
  y = broadcast.scale(y, 1 + scale[:, :, None])
  y = broadcast.shift(y, shift[:, :, None])
  return einops.rearrange(y, "b g l d -> b (g l) d").astype(dtype)


def gate(x: jax.Array, by: jax.Array) -> jax.Array:
  """x times `by`, shapes [b, g l, d] and [b, g, d], then x's dtype."""
  y = einops.rearrange(x, "b (g l) d -> b g l d", g=by.shape[1])
  y = broadcast.scale(y, by[:, :, None]).astype(x.dtype)
  return einops.rearrange(y, "b g l d -> b (g l) d")
