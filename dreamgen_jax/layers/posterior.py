"""What an autoencoder says of a latent: a normal distribution per number.

Its moments are the mean and the logarithm of the variance, one behind the
other along the channels.
"""

import jax
import jax.numpy as jnp


def mode(moments: jax.Array) -> jax.Array:
  """The mean: moments [..., 2 z] -> [..., z]."""
  return jnp.split(moments, 2, axis=-1)[0]


def sample(moments: jax.Array, rng: jax.Array) -> jax.Array:
  """A draw: moments [..., 2 z] -> [..., z]."""
  mean, log_variance = jnp.split(moments, 2, axis=-1)
  deviation = jnp.exp(0.5 * jnp.clip(log_variance, -30.0, 20.0))
  return mean + deviation * jax.random.normal(rng, mean.shape, mean.dtype)


def divergence(moments: jax.Array) -> jax.Array:
  """Kullback-Leibler divergence from a unit normal; mean over all numbers."""
  mean, log_variance = jnp.split(moments, 2, axis=-1)
  log_variance = jnp.clip(log_variance, -30.0, 20.0)
  each = mean**2 + jnp.exp(log_variance) - 1.0 - log_variance
  return 0.5 * jnp.mean(each)
