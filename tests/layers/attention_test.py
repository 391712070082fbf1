"""Tests of attention: blocks of queries do what the plain form does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax.layers import attention, blockwise, stack


def plain(q, k, v, scale):
  logits = jnp.einsum("blnk,bmnk->bnlm", q, k) * scale
  return jnp.einsum("bnlm,bmnk->blnk", jax.nn.softmax(logits, axis=-1), v)


@pytest.mark.parametrize("queries, keys", [
    (blockwise.BLOCK + 9, 40), (2 * blockwise.BLOCK, 2 * blockwise.BLOCK)])
def test_long_attention_and_its_gradients_equal_the_plain_form(queries, keys):
  rng = np.random.default_rng(0)
  q, k, v, change = (
      rng.normal(size=(2, length, 3, 8)).astype(np.float32)
      for length in (queries, keys, keys, queries))
  scale = 0.4

  def both(function):
    return jax.jit(lambda q, k, v: (
        lambda out, back: (out, *back(change)))(*jax.vjp(function, q, k, v)))

  found = both(lambda *x: attention.attend(*x, scale=scale))(q, k, v)
  wanted = both(lambda *x: plain(*x, scale))(q, k, v)
  for each, other in zip(found, wanted, strict=True):
    np.testing.assert_allclose(each, other, atol=3e-6)


def test_logits_of_all_queries_are_never_held():
  length = 8 * blockwise.BLOCK
  shape = jax.ShapeDtypeStruct((1, length, 1, 4), jnp.float32)

  def loss(q, k, v):
    return jnp.sum(attention.attend(q, k, v) ** 2)

  compiled = jax.jit(jax.grad(loss, (0, 1, 2))).lower(
      shape, shape, shape).compile()
  needed = compiled.memory_analysis().temp_size_in_bytes
  assert needed < 4 * length * length  # float32 logits, once


@pytest.mark.parametrize(("policy", "kept"), [
    ("full", 0), ("attention", 2), ("attention_inputs", 5)])
def test_what_the_backward_pass_keeps_of_long_attention(policy, kept, capsys):
  """Of attention to few keys, nothing."""
  x, few = jnp.zeros((1, 2 * blockwise.BLOCK, 2, 8)), jnp.zeros((1, 7, 2, 8))

  def block(x, few):
    return attention.attend(jnp.sin(x), jnp.cos(x), jnp.tan(x)) * (
        attention.attend(jnp.sin(x), few, few))

  jax.ad_checkpoint.print_saved_residuals(
      jax.checkpoint(block, policy=stack.POLICIES[policy]), x, few)
  lines = capsys.readouterr().out.strip().splitlines()
  assert sum("from the argument" not in line for line in lines) == kept
