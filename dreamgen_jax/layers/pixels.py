"""Pictures as bytes, and as the numbers that autoencoders work on."""

import jax
import jax.numpy as jnp


def to_unit(frames: jax.Array) -> jax.Array:
  """u8 -> f32 in [-1, 1]; what is f32 is taken to be in that range."""
  if frames.dtype == jnp.float32:
    return frames
  return frames.astype(jnp.float32) / 127.5 - 1


def from_unit(frames: jax.Array) -> jax.Array:
  """Floats in [-1, 1] -> u8, rounded."""
  return jnp.round((frames + 1) * 127.5).astype(jnp.uint8)
