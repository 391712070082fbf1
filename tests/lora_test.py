"""Adapters: idle at first, both ways equal, under scan and remat."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dreamgen_jax import errors, lora, paths
from dreamgen_jax.layers import stack

CONFIG = lora.Config(rank=2, alpha=6.0, match=(r"blocks/(up|down)$", "head"))


class _Block(nn.Module):

  @nn.compact
  def __call__(self, x):
    y = nn.tanh(nn.Dense(5, name="up")(x))
    return x + nn.Dense(3, name="down")(y)


class _Net(nn.Module):
  remat: str = "none"

  @nn.compact
  def __call__(self, x):
    x = stack.repeat(_Block(name="blocks"), x, depth=3, remat=self.remat)
    return nn.Dense(4, name="head")(x)


@pytest.fixture(scope="module")
def case():
  x = jax.random.normal(jax.random.key(0), (2, 3))
  params = _Net().init(jax.random.key(1), x)["params"]
  adapters = lora.init(jax.random.key(2), params, CONFIG)
  return params, adapters, x


def _loss(params, x, remat="none"):
  return jnp.sum(jnp.sin(_Net(remat).apply({"params": params}, x)))


def _noisy(adapters):
  return jax.tree.map(
      lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(3),
                                                  leaf.shape), adapters)


def test_shapes_and_an_idle_start(case):
  params, adapters, x = case
  shapes = {path: leaf.shape for path, leaf in paths.flatten(adapters).items()}
  assert shapes == {
      "blocks/up/lora_a": (3, 3, 2), "blocks/up/lora_b": (3, 2, 5),
      "blocks/down/lora_a": (3, 5, 2), "blocks/down/lora_b": (3, 2, 3),
      "head/lora_a": (3, 2), "head/lora_b": (2, 4),
  }
  plain = _loss(params, x)
  np.testing.assert_array_equal(
      plain, lora.adapted(_loss, CONFIG)(params, adapters, x))
  np.testing.assert_array_equal(
      plain, _loss(lora.merge(params, adapters, CONFIG), x))


@pytest.mark.parametrize("remat", ["none", "full", "dots"])
def test_both_ways_agree_with_gradients(case, remat):
  params, adapters, x = case
  adapters = _noisy(adapters)

  def intercepted(adapters):
    return lora.adapted(_loss, CONFIG)(params, adapters, x, remat=remat)

  def merged(adapters):
    return _loss(lora.merge(params, adapters, CONFIG), x, remat)

  left = jax.jit(jax.value_and_grad(intercepted))(adapters)
  right = jax.jit(jax.value_and_grad(merged))(adapters)
  # Gradients reach 25 here, sums of larger ones.
  chex.assert_trees_all_close(left, right, atol=5e-5)
  assert abs(float(left[0] - _loss(params, x))) > 0.1


def test_several_are_added_with_their_weights(case):
  params, adapters, _ = case
  one, two = _noisy(adapters), _noisy(_noisy(adapters))
  base, left, right, both = (paths.flatten(tree) for tree in (
      params, lora.merge(params, one, CONFIG), lora.merge(params, two, CONFIG),
      lora.merge_all(params, [(one, CONFIG.scale), (two, -CONFIG.scale / 2)])))
  for path, leaf in both.items():
    np.testing.assert_allclose(
        leaf - base[path], (left[path] - base[path])
        - (right[path] - base[path]) / 2, atol=1e-5)
  assert np.abs(both["head/kernel"] - base["head/kernel"]).max() > 0.1


def test_a_sum_is_rounded_once(case):
  """In bfloat16, a hundred changes of a tenth of a step each are not lost."""
  params = {"head": {"kernel": jnp.ones((3, 4), jnp.bfloat16)}}
  step = float(jnp.finfo(jnp.bfloat16).eps) / 10
  change = {"head": {"lora_a": jnp.ones((3, 1)), "lora_b": jnp.ones((1, 4))}}
  merged = lora.merge_all(params, [(change, step)] * 100)["head"]["kernel"]
  assert merged.dtype == jnp.bfloat16
  np.testing.assert_allclose(merged.astype(jnp.float32), 1 + 100 * step)


def test_a_pattern_that_matches_nothing(case):
  config = lora.Config(2, 2.0, ("head", "blocks/middle"))
  with pytest.raises(errors.ConfigError, match="blocks/middle"):
    lora.init(jax.random.key(0), case[0], config)


def test_adapters_that_are_not_called(case):
  params, adapters, x = case
  fake = {**params, "spare": {"kernel": jnp.zeros((3, 4))}}
  more = {**adapters, "spare": lora.init(
      jax.random.key(0), {"spare": fake["spare"]},
      lora.Config(2, 2.0, "spare"))["spare"]}
  with pytest.raises(errors.ConfigError, match="3 of 4 adapters applied"):
    lora.adapted(_loss, CONFIG)(fake, more, x)


def test_adapters_of_another_model(case):
  params, adapters, _ = case
  wrong = {**adapters, "tail": adapters["head"]}
  with pytest.raises(errors.ConfigError, match=r"3 of 4 .*tail \(3, 4\)"):
    lora.merge(params, wrong, CONFIG)
