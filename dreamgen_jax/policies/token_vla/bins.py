"""Actions as bins, and bins as tokens.

RT-2 (arXiv 2307.15818) cuts each value into 256 bins and gives them tokens
that the vocabulary hardly needs; the numbers here are OpenVLA's (arXiv
2406.09246): `bins` edges over [-1, 1], the last tokens of the vocabulary.
"""

import jax.numpy as jnp
import numpy as np

from dreamgen_jax import types


def encode(action: types.Array, bins: int) -> types.Array:
  """f32[...] -> i32[...] in [0, bins): the edges at or below, less one."""
  # By numpy: JAX's differ in the last bit, and values lie on edges.
  edges = np.linspace(-1.0, 1.0, bins).astype(np.float32)
  found = jnp.searchsorted(edges, jnp.clip(action, -1, 1), side="right")
  return found.astype(jnp.int32) - 1


def decode(index: types.Array, bins: int) -> types.Array:
  """i32[...] in [0, bins) -> the bins' middles f32[...].

  There is one bin less than edges; the last number, which only 1 has, is the
  last bin's.
  """
  edges = np.linspace(-1.0, 1.0, bins)
  middles = jnp.asarray((edges[1:] + edges[:-1]) / 2, jnp.float32)
  return middles[jnp.minimum(index, bins - 2)]


def token(index: types.Array, vocabulary: int) -> types.Array:
  """Numbers of bins to ids: bin 0 is the vocabulary's last."""
  return vocabulary - 1 - index
