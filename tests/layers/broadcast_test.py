"""Broadcast products and sums: values and gradients against plain ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax.layers import broadcast

PLAIN = {broadcast.scale: jnp.multiply, broadcast.shift: jnp.add}


@pytest.mark.parametrize("run", PLAIN)
@pytest.mark.parametrize("shape", [(5,), (2, 3, 1, 5)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_as_plain(run, shape, dtype):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.standard_normal((2, 3, 4, 5)), dtype)
  by = jnp.asarray(rng.standard_normal(shape), jnp.float32)
  found, back = jax.vjp(run, x, by)
  expected, plain_back = jax.vjp(PLAIN[run], x, by)
  np.testing.assert_array_equal(found, expected)
  change = jnp.asarray(rng.standard_normal(found.shape), found.dtype)
  for got, wanted in zip(back(change), plain_back(change), strict=True):
    assert got.dtype == wanted.dtype and got.shape == wanted.shape
    np.testing.assert_allclose(
        got.astype(jnp.float32), wanted.astype(jnp.float32), atol=1e-5)
