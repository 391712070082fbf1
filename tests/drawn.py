"""Parameters and batches drawn at random: nothing is compiled for them."""

import jax
import numpy as np


def params(model, scale=0.2, seed=1):
  """Random everywhere, zeros and ones included; seed may be a generator."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
      lambda leaf: rng.normal(0, scale, leaf.shape).astype(np.float32),
      jax.eval_shape(model.init, jax.random.key(0)))


def batch(model, size, seed=0, tokens=1):
  """What the model's example lists: noise in [-1, 1], tokens below `tokens`."""
  rng = np.random.default_rng(seed)

  def draw(leaf):
    if leaf.dtype == np.uint8:
      return rng.integers(0, 256, leaf.shape, np.uint8)
    if leaf.dtype == np.int32:
      return rng.integers(0, tokens, leaf.shape, np.int32)
    if leaf.dtype == np.bool_:
      return np.ones(leaf.shape, bool)
    return rng.uniform(-1, 1, leaf.shape).astype(np.float32)

  return {name: draw(leaf) for name, leaf in model.example(size).items()}
