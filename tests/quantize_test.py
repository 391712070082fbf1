"""A quantised base: small, near the full one, and restored layer by layer."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import qwix
from flax import linen as nn

from dreamgen_jax import errors, lora, optim, paths, quantize, sharding
from dreamgen_jax.layers import stack
from dreamgen_jax.world_models import wan

CONFIG = lora.Config(rank=2, alpha=6.0, match=r"blocks/(up|down)$")
BITS = {"int8": 8, "nf4": 4}


class _Block(nn.Module):

  @nn.compact
  def __call__(self, x):
    y = nn.tanh(nn.Dense(256, name="up")(x))
    return x + nn.Dense(64, use_bias=False, name="down")(y)


class _Net(nn.Module):
  remat: str = "none"

  @nn.compact
  def __call__(self, x):
    x = stack.repeat(_Block(name="blocks"), x, depth=6, remat=self.remat)
    return nn.Dense(4, name="head")(x)


def _loss(params, x, remat="none"):
  return jnp.mean(jnp.square(_Net(remat).apply({"params": params}, x)))


@pytest.fixture(scope="module")
def case():
  x = np.random.default_rng(0).normal(size=(2, 64)).astype(np.float32)
  params = jax.jit(_Net().init)(jax.random.key(1), x)["params"]
  rng = np.random.default_rng(1)
  adapters = jax.tree.map(
      lambda leaf: 0.1 * rng.normal(size=leaf.shape).astype(np.float32),
      jax.eval_shape(functools.partial(lora.init, config=CONFIG),
                     jax.random.key(2), params))
  return jax.tree.map(np.asarray, params), adapters, x


def _restored(params):
  return jax.tree.map(
      lambda leaf: qwix.dequantize(jax.tree.map(jnp.asarray, leaf))
      if isinstance(leaf, qwix.QArray) else leaf,
      params, is_leaf=lambda leaf: isinstance(leaf, qwix.QArray))


@pytest.mark.parametrize("kind", quantize.KINDS)
def test_only_stacked_kernels_shrink(case, kind):
  flat = paths.flatten(quantize.quantize(case[0], kind))
  held = {path for path, leaf in flat.items()
          if isinstance(leaf, qwix.QArray)}
  assert held == {"blocks/up/kernel", "blocks/down/kernel"}
  full = paths.flatten(case[0])
  for path in held:
    assert flat[path].shape == full[path].shape
    assert isinstance(flat[path].qvalue, np.ndarray)
    # Beside the integers there are 4 bytes of scale for 64 or 256 inputs.
    bits = 8 * quantize.size(flat[path]) / full[path].size
    assert BITS[kind] < bits <= BITS[kind] + 0.5


@pytest.mark.parametrize("kind, remat", [
    ("int8", "none"), ("int8", "full"), ("nf4", "dots")])
def test_gradients_are_those_of_the_restored_base(case, kind, remat):
  params, adapters, x = case
  base = quantize.quantize(params, kind)
  run = lora.adapted(
      quantize.aware(functools.partial(_loss, remat=remat)), CONFIG)
  step = jax.jit(jax.value_and_grad(run, 1)).lower(base, adapters, x).compile()
  value = step(base, adapters, x)
  chex.assert_trees_all_close(value, jax.jit(jax.value_and_grad(
      lambda adapters: _loss(lora.merge(_restored(base), adapters, CONFIG), x)
  ))(adapters), rtol=1e-4, atol=1e-5)
  assert max(float(jnp.max(jnp.abs(leaf)))
             for leaf in jax.tree.leaves(value[1])) > 1e-3
  # On the device it is packed, and never whole in full precision.
  memory = step.memory_analysis()
  assert memory.argument_size_in_bytes < (
      1.1 * quantize.size((base, adapters, x)))
  assert memory.temp_size_in_bytes < 0.7 * quantize.size(params["blocks"])


def test_training_leaves_the_base_alone(case):
  params, adapters, x = case
  tree = {"base": quantize.quantize(params, "nf4"), "lora": adapters}
  trainable, frozen = optim.partition(tree, "^lora/")
  assert jax.tree.structure(trainable["lora"]) == jax.tree.structure(adapters)
  assert not jax.tree.leaves(trainable["base"])
  run = lora.adapted(quantize.aware(_loss), CONFIG)
  grads = jax.jit(jax.grad(lambda trainable: run(
      *optim.combine(trainable, frozen).values(), x)))(trainable)
  assert {path for path, leaf in paths.flatten(grads["lora"]).items()
          if np.any(leaf)} == paths.flatten(adapters).keys()
  assert not jax.tree.leaves(grads["base"])


def test_its_parts_are_sharded_as_the_kernel(case):
  rules = [("up/kernel$", ("fsdp", "tensor")), (".*", ())]
  on = sharding.mesh({"data": -1})
  found = sharding.by_rules(quantize.quantize(case[0], "nf4"), rules, on)
  kernel = found["blocks"]["up"]["kernel"]
  assert kernel.qvalue.spec == kernel.scale.spec == sharding.P(
      None, "fsdp", "tensor")
  assert found["blocks"]["down"]["kernel"].scale.spec == sharding.P(
      None, None, None)


def test_what_cannot_be_quantised(case):
  with pytest.raises(errors.ConfigError, match="'int4'; have: int8, nf4"):
    quantize.quantize(case[0], "int4")
  with pytest.raises(errors.ConfigError, match="no stacked linear layers"):
    quantize.quantize({"head": case[0]["head"]}, "int8")


def test_the_trained_nano_model_loses_little():
  model, params, _ = wan.load("nano", wan.PRESETS["nano"], ["transformer"])
  rng = np.random.default_rng(0)
  batch = {name: rng.normal(size=leaf.shape).astype(np.float32)
           for name, leaf in model.example(2).items()}
  batch["latent"] *= 0  # a clip it can foresee: the mean of all
  tau = np.full(2, 0.7, np.float32)
  full = params["transformer"]

  def error(base):
    run = quantize.aware(lambda base: model.error_at(
        {"transformer": base}, jax.random.key(1), batch, tau))
    return np.asarray(jax.jit(run)(base))

  truth = error(full)
  apart = {}
  for kind, part in (("int8", 0.27), ("nf4", 0.16)):
    base = quantize.quantize(full, kind)
    sizes = quantize.size(base["blocks"]), quantize.size(full["blocks"])
    assert sizes[0] < part * sizes[1]
    apart[kind] = np.abs(error(base) / truth - 1).max()
  # Kernels that were 2 % too large would be 6e-2 apart.
  assert 0 < apart["int8"] < 2e-3
  assert apart["int8"] < apart["nf4"] < 1e-2
