"""How Wan is told the first frame, in training and in dreaming alike.

By channels: the transformer reads noise | mask | condition; the mask is 1 in
the frames that are given, the condition is the latent of the given frame
followed by grey. Source: Wan2.1 `wan/image2video.py`. The last frame can be
given behind the grey: `wan/first_last_frame2video.py`. By replacement: the
frame's latent stands where the first latent frame's noise would, at time 0.
Source: Wan2.2 `wan/textimage2video.py`.
"""

import jax.numpy as jnp

from dreamgen_jax import types


def clip(frames: int, first: types.Array,
         last: types.Array | None = None) -> types.Array:
  """Grey between what is given, [b, h, w, 3] in [-1, 1]: [b, frames, h, w, 3].
  """
  rest = ((0, 0), (0, frames - 1), (0, 0), (0, 0), (0, 0))
  video = jnp.pad(first[:, None], rest)  # b f h w 3
  return video if last is None else video.at[:, -1].set(last)


def mask(like: types.Array, time_factor: int,
         last: bool = False) -> types.Array:
  """1 where a frame is given, else 0: [b, t, h, w, time_factor].

  A channel stands for one of the video frames that a latent frame holds; the
  first latent frame holds one, which fills all of its channels.
  """
  zeros = jnp.zeros((*like.shape[:-1], time_factor), like.dtype)
  given = zeros.at[:, 0].set(1.0)
  return given.at[:, -1, ..., -1].set(1.0) if last else given


def join(noisy: types.Array, condition: types.Array, time_factor: int,
         last: bool = False) -> types.Array:
  """What the transformer reads: [b, t, h, w, c + time_factor + c].

  Args:
    noisy: latent [b, t, h, w, c].
    condition: normalised latent of `clip`, of the same shape.
    time_factor: video frames of a latent frame.
    last: whether the last video frame is given too.
  """
  given = mask(noisy, time_factor, last)
  parts = (noisy, given, condition.astype(noisy.dtype))
  return jnp.concatenate(parts, axis=-1)


def replace(noisy: types.Array, time: types.Array, condition: types.Array
            ) -> tuple[types.Array, types.Array]:
  """The first latent frame given, at time 0.

  Args:
    noisy: latent [b, t, h, w, c].
    time: f32[b].
    condition: normalised latent [b, 1, h, w, c] of the frame alone.

  Returns:
    (latent of noisy's shape, times f32[b, t]).
  """
  noisy = noisy.at[:, :1].set(condition.astype(noisy.dtype))
  later = jnp.arange(noisy.shape[1]) > 0
  return noisy, time[:, None] * later
