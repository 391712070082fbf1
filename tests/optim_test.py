"""Optimisers: which parameters a rule of Muon moves, and how."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from dreamgen_jax import optim, paths


@pytest.fixture
def tree():
  key = jax.random.key(0)
  return {
      "blocks": {"q": {"kernel": jax.random.normal(key, (2, 8, 16)),
                       "bias": jnp.ones((2, 16))}},
      "token": {"embedding": jax.random.normal(key, (32, 8))},
  }


def _update(tree, grads, **changes):
  config = common.optim(1.0, 0, schedule="constant", clip=1e9, **changes)
  rule = optim.optimizer(config, 10)
  return rule.update(grads, rule.init(tree), tree)[0]


def test_muon_orthogonalises_each_kernel_of_a_stack(tree):
  grads = jax.tree.map(jnp.asarray, tree)
  grads["blocks"]["q"]["kernel"] *= jnp.array([1.0, 1e-3])[:, None, None]
  step = _update(tree, grads, muon=True, weight_decay=0.0)
  for kernel in step["blocks"]["q"]["kernel"]:  # 8 16
    # Newton and Schulz' five steps leave singular values near 1.
    size = np.linalg.svd(kernel / (0.2 * 16 ** 0.5), compute_uv=False)
    assert size.min() > 0.5 and size.max() < 1.3


def test_muon_leaves_all_but_kernels_to_adam(tree):
  grads = jax.tree.map(jnp.sin, tree)
  ours, adam = (_update(tree, grads, muon=muon, weight_decay=0.0)
                for muon in (True, False))
  chex.assert_trees_all_equal_shapes_and_dtypes(ours, adam)
  # optax' Adam beside Muon has Nesterov's momentum: the same sign, not size.
  one, two = paths.flatten(ours), paths.flatten(adam)
  for name in ("token/embedding", "blocks/q/bias"):
    np.testing.assert_array_equal(np.sign(one[name]), np.sign(two[name]))
  assert not np.allclose(
      ours["blocks"]["q"]["kernel"], adam["blocks"]["q"]["kernel"], atol=0.1)


def test_only_what_config_says_decays(tree):
  still = jax.tree.map(jnp.zeros_like, tree)
  step = _update(tree, still, muon=True, weight_decay=0.1, decay="kernel$")
  np.testing.assert_allclose(
      step["blocks"]["q"]["kernel"], -0.1 * tree["blocks"]["q"]["kernel"],
      rtol=1e-5)
  assert not np.any(step["token"]["embedding"])
