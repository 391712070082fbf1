"""Normalisations; statistics in float32 whatever the compute dtype."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from dreamgen_jax.layers import broadcast


def rms(x: jax.Array, epsilon: float = 1e-6) -> jax.Array:
  """x / rms(x) over the last axis, in float32."""
  y = x.astype(jnp.float32)
  return y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + epsilon)


class RMSNorm(nn.Module):
  """x / rms(x) * scale over the last axis (Zhang and Sennrich, 2019).

  Attributes:
    epsilon: added to the mean square.
    dtype: of the result; None keeps the input's.
  """

  epsilon: float = 1e-6
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[..., d] -> [..., d]."""
    scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
    y = broadcast.scale(rms(x, self.epsilon), scale)
    return y.astype(self.dtype or x.dtype)


class LayerNorm(nn.Module):
  """(x - mean) / deviation over the last axis (Ba et al., 2016).

  Attributes:
    epsilon: added to the variance.
    affine: learn `scale` and `bias`.
    bias: False learns `scale` alone.
    dtype: of the result; None keeps the input's.
  """

  epsilon: float = 1e-6
  affine: bool = True
  bias: bool = True
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[..., d] -> [..., d]."""
    y = x.astype(jnp.float32)
    y = y - jnp.mean(y, -1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + self.epsilon)
    if self.affine:
      y = broadcast.scale(
          y, self.param("scale", nn.initializers.ones, x.shape[-1:]))
    if self.affine and self.bias:
      y = broadcast.shift(
          y, self.param("bias", nn.initializers.zeros, x.shape[-1:]))
    return y.astype(self.dtype or x.dtype)
