"""How Wan is told the first frame: by channels beside the noise.

The transformer reads noise | mask | condition: the mask is 1 in the frames
that are given, the condition is the latent of the given frame followed by
grey. Source: Wan2.1 `wan/image2video.py`.
"""

import jax.numpy as jnp

from dreamgen_jax import types


def clip(frame: types.Array, frames: int) -> types.Array:
  """First frame [b, h, w, 3] in [-1, 1], then grey: [b, frames, h, w, 3]."""
  rest = ((0, 0), (0, frames - 1), (0, 0), (0, 0), (0, 0))
  return jnp.pad(frame[:, None], rest)  # b f h w 3


def mask(like: types.Array, time_factor: int) -> types.Array:
  """1 in latent frame 0, else 0: [b, t, h, w, time_factor].

  A channel stands for one of the video frames that a latent frame holds; the
  first latent frame holds one, which fills all of its channels.
  """
  zeros = jnp.zeros((*like.shape[:-1], time_factor), like.dtype)
  return zeros.at[:, 0].set(1.0)


def join(noisy: types.Array, condition: types.Array,
         time_factor: int) -> types.Array:
  """What the transformer reads: [b, t, h, w, c + time_factor + c].

  Args:
    noisy: latent [b, t, h, w, c].
    condition: normalised latent of `clip`, of the same shape.
    time_factor: video frames of a latent frame.
  """
  given = mask(noisy, time_factor)
  parts = (noisy, given, condition.astype(noisy.dtype))
  return jnp.concatenate(parts, axis=-1)
