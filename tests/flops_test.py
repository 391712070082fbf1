"""A step's useful work does not count what is only computed again."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax import flops
from dreamgen_jax.layers import stack
from dreamgen_jax.stages import train


@dataclasses.dataclass(frozen=True)
class Part:
  remat: str = "full"
  width: int = 4


@dataclasses.dataclass(frozen=True)
class Deep:
  """x -> tanh(x w) again and again, its inside computed twice or not."""

  config: Part = dataclasses.field(default_factory=Part)

  def loss(self, params, rng, batch):
    def block(x, w):
      return jnp.tanh(jnp.tanh(x @ w) @ w), None

    if self.config.remat != "none":
      block = jax.checkpoint(block, policy=stack.POLICIES[self.config.remat])
    x, _ = jax.lax.scan(block, batch["x"], params["w"])
    return jnp.sum(x), {}


def test_only_useful_work_is_counted():
  trees = ({"w": np.zeros((3, 4, 4))}, {"w": None}, {"x": np.zeros((2, 4))})
  found = {model.config.remat: flops.count(train.gradient(model), trees)
           for model in (Deep(), flops.plain(Deep()))}
  product = 2 * 2 * 4 * 4
  assert found["none"] == 3 * 2 * 3 * product  # forward, and two for each
  assert found["full"] > found["none"]


def test_what_computes_nothing_again_stays_itself():
  model = flops.plain(Deep())
  assert model.config == Part(remat="none", width=4)
  assert flops.plain(model) is model
