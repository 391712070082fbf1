"""Pictures as bytes, and as the numbers that autoencoders work on."""

import jax
import jax.numpy as jnp


def to_unit(frames: jax.Array) -> jax.Array:
  """u8 -> f32 in [-1, 1]; what is f32 is taken to be in that range."""
  if frames.dtype == jnp.float32:
    return frames
  return frames.astype(jnp.float32) / 127.5 - 1


def letter_box(frames: jax.Array, height: int, width: int) -> jax.Array:
  """f32[..., h, w, 3] in [-1, 1] -> [..., height, width, 3], aspect kept.

  Linear, antialiased, with black bars at two sides; of an odd number of rows
  the last bar has one more. Source: openpi's resize_with_pad.
  """
  h, w = frames.shape[-3:-1]
  if (h, w) == (height, width):
    return frames
  ratio = max(w / width, h / height)
  inner = int(h / ratio), int(w / ratio)
  frames = jax.image.resize(
      frames, (*frames.shape[:-3], *inner, 3), "linear")
  bars = [((whole - part) // 2, whole - part - (whole - part) // 2)
          for whole, part in zip((height, width), inner, strict=True)]
  return jnp.pad(jnp.clip(frames, -1, 1),
                 [(0, 0)] * (frames.ndim - 3) + [*bars, (0, 0)],
                 constant_values=-1)


def from_unit(frames: jax.Array) -> jax.Array:
  """Floats in [-1, 1] -> u8, rounded."""
  return jnp.round((frames + 1) * 127.5).astype(jnp.uint8)
