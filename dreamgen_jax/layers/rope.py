"""Rotary position embedding (Su et al., 2021) along one axis or several."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax.layers import context, rope_kernel


def table(positions: np.ndarray, dim: int,
          theta: float = 10_000.0) -> np.ndarray:
  """Angles f64[len(positions), dim / 2]: position * theta^(-2i / dim)."""
  frequencies = theta ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)
  return np.outer(positions, frequencies)


def grid(shape: Sequence[int], dims: Sequence[int],
         theta: float | Sequence[float] = 10_000.0,
         positions: Sequence[np.ndarray] | None = None
         ) -> tuple[jax.Array, jax.Array]:
  """Cosines and sines for a grid of tokens, row-major; each axis has its dims.

  Args:
    shape: tokens along each axis, e.g. (t, h, w).
    dims: how many of the head's dims turn with each axis; all even.
    theta: base of the frequencies, or one for each axis.
    positions: of the tokens along each axis; None counts them from 0.

  Returns:
    (cos, sin), each f32[l, k / 2] with l = prod(shape), k = sum(dims).
  """
  if positions is None:
    positions = [np.arange(size) for size in shape]
  bases = np.broadcast_to(theta, len(dims))
  # The angles are exact (float64, on the host); only axes become constants.
  angles = [table(places, dim, base)
            for places, dim, base in zip(positions, dims, bases, strict=True)]

  def spread(of):
    parts = []
    for axis, angle in enumerate(angles):
      view = [1] * len(shape) + [angle.shape[-1]]
      view[axis] = shape[axis]
      part = jnp.asarray(of(angle), jnp.float32).reshape(view)
      parts.append(jnp.broadcast_to(part, (*shape, angle.shape[-1])))
    whole = jnp.concatenate(parts, axis=-1)
    return whole.reshape(-1, whole.shape[-1])  # l k/2

  return spread(np.cos), spread(np.sin)


def at(positions: jax.Array, dim: int,
       theta: float = 10_000.0) -> tuple[jax.Array, jax.Array]:
  """(cos, sin) f32[b, l, dim / 2] at positions i32[b, l] known only on device.
  """
  frequencies = jnp.asarray(table(np.ones(1), dim, theta)[0], jnp.float32)
  angles = positions.astype(jnp.float32)[..., None] * frequencies  # b l k/2
  return jnp.cos(angles), jnp.sin(angles)


def wan_dims(head_dim: int) -> tuple[int, int, int]:
  """A head's dims for (t, h, w): a third each, the remainder to time."""
  space = 2 * (head_dim // 6)
  return head_dim - 2 * space, space, space


def rotate_pairs(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
  """Turns each pair of neighbours (2i, 2i + 1) by angle i.

  Args:
    x: [b, l, n, k].
    cos, sin: f32[l, k / 2] or f32[b, l, k / 2].
  """
  if not rope_kernel.fits(x, cos):
    return _pairs(x, cos, sin)
  return context.local(_turn, (x, "b l n k"), (cos, "l k"), (sin, "l k"))


def _pairs(x, cos, sin):
  cos, sin = cos[..., None, :], sin[..., None, :]  # l 1 k/2
  y = x.astype(jnp.float32).reshape(*x.shape[:-1], -1, 2)
  even, odd = y[..., 0], y[..., 1]
  y = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
  return y.reshape(x.shape).astype(x.dtype)


@jax.custom_vjp
def _turn(x, cos, sin):
  """The same by platform; to turn back is the gradient."""
  return jax.lax.platform_dependent(
      x, cos, sin, tpu=rope_kernel.turn, default=_pairs)


_turn.defvjp(
    lambda x, cos, sin: (_turn(x, cos, sin), (cos, sin)),
    lambda kept, change: (_turn(change, kept[0], -kept[1]), None, None))


def rotate_halves(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
  """Turns each pair (i, i + k / 2) by angle i; arguments as `rotate_pairs`."""
  cos, sin = cos[..., None, :], sin[..., None, :]  # l 1 k/2
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  y = [first * cos - second * sin, first * sin + second * cos]
  return jnp.concatenate(y, axis=-1).astype(x.dtype)
