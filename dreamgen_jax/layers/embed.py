"""Sinusoids of a scalar such as a diffusion time."""

import jax
import jax.numpy as jnp
import numpy as np


def sinusoid(x: jax.Array, dim: int, *, ratio: float = 10_000.0,
             endpoint: bool = False, sin_first: bool = False) -> jax.Array:
  """Cosines and sines of x at dim / 2 geometric frequencies, in float32.

  Frequency i is ratio^(-i / half), or, with `endpoint`, ratio^(-i / (half - 1))
  so that the last one is 1 / ratio. Scale x for another first frequency.

  Args:
    x: [...]; models differ in its unit.
    dim: even.
    ratio: first to last frequency.
    endpoint: see above (Vaswani et al., 2017 have none).
    sin_first: sines in the first half; otherwise the cosines.

  Returns:
    f32[..., dim].
  """
  half = dim // 2
  # Exponents are rounded as in the released networks; at times near 1000 the
  # angles would be 5e-5 off.
  exponents = np.float32(-np.log(ratio)) * np.arange(half, dtype=np.float32)
  exponents = exponents / np.float32(half - endpoint)
  frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)
  return waves(x, frequencies, sin_first=sin_first)


def waves(x: jax.Array, frequencies: np.ndarray, *,
          sin_first: bool = False) -> jax.Array:
  """As `sinusoid`, of frequencies f32[half] in radians per unit of x."""
  angles = x.astype(jnp.float32)[..., None] * frequencies  # ... dim/2
  parts = [jnp.cos(angles), jnp.sin(angles)]
  return jnp.concatenate(parts[::-1] if sin_first else parts, axis=-1)
