"""The TPU's kernels, interpreted, do what the plain forms do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax.layers import flash, rope, rope_kernel

SCALE = 0.3


def _plain(q, k, v):
  logits = jnp.einsum("nlk,nmk->nlm", q, k) * SCALE
  normaliser = jax.nn.logsumexp(logits, axis=-1)
  weights = jnp.exp(logits - normaliser[..., None])
  return jnp.einsum("nlm,nmk->nlk", weights, v), normaliser


@pytest.mark.parametrize(("queries", "keys", "dim"), [
    (200, 150, 64),  # what fills up: queries, keys and the head's dims
    (256, 512, 128),  # nothing does
])
def test_both_passes_equal_the_plain_form(queries, keys, dim):
  tuned = flash.Tuning((128, 256), (128, 256), 128, 128, 1 << 24)
  rng = np.random.default_rng(0)
  q, k, v, change = (
      rng.normal(size=(2, length, dim)).astype(np.float32)
      for length in (queries, keys, keys, queries))
  # All logits below zero: the keys that fill up would win if they were zero.
  q[0], k[0] = np.abs(q[0]), -np.abs(k[0])
  (out, normaliser), back = jax.vjp(_plain, q, k, v)
  found = jax.jit(functools.partial(
      flash.forward, scale=SCALE, tuned=tuned, interpret=True))(q, k, v)
  np.testing.assert_allclose(found[0], out, atol=1e-5)
  np.testing.assert_allclose(found[1], normaliser, rtol=2e-6, atol=1e-5)
  gradients = jax.jit(functools.partial(
      flash.backward, scale=SCALE, tuned=tuned, interpret=True))(
          q, k, v, *found, change)
  for one, other in zip(
      gradients, back((change, jnp.zeros_like(normaliser))), strict=True):
    np.testing.assert_allclose(one, other, atol=3e-5)


def test_block_sizes_are_the_generation_s():
  assert flash.tuning() is flash.TUNING["v4"]  # no TPU here: the smallest
  for tuned in flash.TUNING.values():
    assert 768 * tuned.queries < tuned.vmem
    for rows, columns in (tuned.forward, tuned.backward):
      assert rows % flash.LANES == columns % flash.LANES == 0
      assert columns % tuned.chunk == 0


def test_turning_pairs_equals_the_plain_form_and_back():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 40, 3, 128)).astype(np.float32)
  cos, sin = rope.grid((2, 4, 5), rope.wan_dims(128))
  found = rope_kernel.turn(x, cos, sin, interpret=True)
  wanted = rope._pairs(x, cos, sin)
  np.testing.assert_allclose(found, wanted, atol=1e-6)
  assert not np.allclose(found, x)

  def gradient(function):
    return jax.jit(jax.grad(lambda x: jnp.sum(
        jnp.sin(function(x, cos, sin)))))(x)

  np.testing.assert_allclose(
      gradient(rope.rotate_pairs), gradient(rope._pairs), atol=1e-6)
