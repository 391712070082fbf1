"""Predictions that lead to what is known, as firmly as it is.

Where the share is 1, a sampler that is given these arrives at the known values
by the straight line from its noise; where it is 0, at the network's; between,
between.
"""

import jax.numpy as jnp

from dreamgen_jax import types


def velocity(predicted: types.Array, x: types.Array, tau: types.Array,
             known: types.Array, share: types.Array) -> types.Array:
  """Velocity noise - data at x = tau noise + (1 - tau) data, tau > 0."""
  return predicted + share * ((x - known) / tau - predicted)


def epsilon(predicted: types.Array, x: types.Array, alpha: types.Array,
            known: types.Array, share: types.Array) -> types.Array:
  """Noise at x = sqrt(alpha) data + sqrt(1 - alpha) noise, alpha < 1."""
  noise = (x - jnp.sqrt(alpha) * known) / jnp.sqrt(1 - alpha)
  return predicted + share * (noise - predicted)


def sample(predicted: types.Array, known: types.Array,
           share: types.Array) -> types.Array:
  """Data."""
  return predicted + share * (known - predicted)
