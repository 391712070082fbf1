"""Both forms of the convolution are one function, and it is causal."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax.layers import conv

SAME = ((1, 1), (1, 1))


@pytest.mark.parametrize(
    "frames, size, strides, padding",
    [
        (5, (3, 3, 3), (1, 1, 1), ((2, 0), *SAME)),
        (5, (1, 3, 3), (1, 2, 2), ((0, 0), (0, 1), (0, 1))),
        (5, (3, 1, 1), (2, 1, 1), ((0, 0), (0, 0), (0, 0))),
        (1, (3, 1, 1), (2, 1, 1), ((0, 0), (0, 0), (0, 0))),
        (0, (3, 1, 1), (1, 1, 1), ((2, 0), (0, 0), (0, 0))),
    ],
)
def test_both_forms_agree_with_gradients(frames, size, strides, padding):
  keys = jax.random.split(jax.random.key(0))
  x = jax.random.normal(keys[0], (2, frames, 6, 4, 3))
  kernel = jax.random.normal(keys[1], (*size, 3, 5))

  def outcome(native):
    def total(x, kernel):
      y = conv.conv3d(
          x, kernel, strides=strides, padding=padding, native=native
      )
      return jnp.sum(jnp.sin(y)), y

    return jax.grad(total, (0, 1), has_aux=True)(x, kernel)

  chex.assert_trees_all_close(outcome(True), outcome(False), atol=1e-4)


def test_a_frame_does_not_see_later_ones():
  module = conv.CausalConv3d(4)
  x = jax.random.normal(jax.random.key(0), (1, 5, 4, 4, 2))
  variables = module.init(jax.random.key(1), x)
  whole = module.apply(variables, x)
  chex.assert_shape(whole, (1, 5, 4, 4, 4))
  start = module.apply(variables, x[:, :3])
  np.testing.assert_allclose(whole[:, :3], start, atol=1e-6)
  other = module.apply(variables, x.at[:, 2].add(1.0))
  assert not np.allclose(whole[:, 2], other[:, 2], atol=1e-3)
