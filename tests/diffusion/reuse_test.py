"""Steps without blocks: which they are, and what stands in for the blocks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dreamgen_jax import errors
from dreamgen_jax.diffusion import reuse, sample
from dreamgen_jax.layers import stack


def _config(ratios, **changes):
  return reuse.Config(ratios, **{
      "threshold": 9.0, "longest": 9, "head": 0.0, "scaled": True} | changes)


def test_off_by_default():
  assert reuse.plan(reuse.Config(), 10) is None
  assert reuse.planned(reuse.Config(), 10) is None


def test_factors_are_sizes_over_the_last_one_computed():
  factors = reuse.plan(_config((1.0, 0.9, 0.8, 0.5)), 4)
  np.testing.assert_allclose(factors, [0, 0.9, 0.72, 0.36])
  plain = reuse.plan(_config((1.0, 0.9, 0.8, 0.5), scaled=False), 4)
  np.testing.assert_array_equal(plain, [0, 1, 1, 1])


@pytest.mark.parametrize("changes, expected", [
    (dict(longest=2), [0, 1, 1, 0, 1, 1, 0, 1]),
    (dict(head=0.5), [0, 0, 0, 0, 1, 1, 1, 1]),
    (dict(threshold=0.0), [0] * 8),
    # 0.1, then 0.1 + 0.19 of the size last computed.
    (dict(threshold=0.1001), [0, 1, 0, 1, 0, 1, 0, 1]),
    (dict(threshold=0.2901), [0, 1, 1, 0, 1, 1, 0, 1]),
])
def test_when_blocks_are_skipped(changes, expected):
  factors = reuse.plan(_config((1.0, *[0.9] * 7), **changes), 8)
  assert (factors > 0).tolist() == [bool(skip) for skip in expected]


def test_another_expert_begins_afresh():
  factors = reuse.plan(_config((1.0, *[1.1] * 5)), 6, {3})
  np.testing.assert_allclose(factors, [0, 1.1, 1.21, 0, 1.1, 1.21])


def test_ratios_of_another_number_of_steps():
  """Twice the steps: each changes the size by the root."""
  found = reuse.plan(_config((1.0, 0.81, 0.64, 0.81)), 7)
  np.testing.assert_allclose(
      found[1:], np.cumprod([0.9, 0.9, 0.8, 0.8, 0.9, 0.9]))


def test_no_negative_sizes():
  with pytest.raises(errors.ConfigError, match="-0.5; sizes have positive"):
    reuse.Config((1.0, -0.5))


class _Block(nn.Module):

  @nn.compact
  def __call__(self, x, t):
    jax.debug.callback(lambda t: _RUNS.append(float(t)), t, ordered=True)
    return x + t * nn.Dense(x.shape[-1], name="dense")(x) / 1000


class _Network(nn.Module):

  @nn.compact
  def __call__(self, x, t, memory=None):
    return stack.remembered(self, lambda x: stack.repeat(
        _Block(name="blocks"), x, t, depth=1), x, memory)


_RUNS: list[float] = []


def test_a_sampler_whose_network_remembers():
  """Against the same steps, with what was added written out by hand."""
  network, x = _Network(), jax.random.normal(jax.random.key(0), (2, 3, 4))
  params = network.init(jax.random.key(1), x, jnp.float32(0))
  kernel = np.asarray(params["params"]["blocks"]["dense"]["kernel"][0])
  sigmas = np.array([1.0, 0.8, 0.6, 0.4, 0.0])
  factors = np.array([0, 0.5, 0, 0.25])

  @jax.jit
  def run(x, factors):
    memory = reuse.Memory(factors)
    predict = reuse.remember(
        lambda x, t, memory: network.apply(params, x, t, memory), x, memory)
    return sample.euler(predict, x, sigmas), memory.ratios()

  jax.effects_barrier()
  _RUNS.clear()
  found, _ = run(x, factors)
  jax.effects_barrier()
  assert set(_RUNS) == {1000, 600}  # of four steps; tracing may call twice
  expected = np.asarray(x)
  for i, factor in enumerate(factors):
    if factor == 0:
      added, factor = sigmas[i] * expected @ kernel, 1.0
    expected = expected + (sigmas[i + 1] - sigmas[i]) * (
        expected + factor * added)
  np.testing.assert_allclose(found, expected, atol=1e-5)

  _, (calls, ratios) = run(x, np.zeros(6))  # measures
  assert calls == 4 and ratios.shape == (6,)
  plain = [np.asarray(x)]
  for i in range(3):
    plain.append(plain[i] + (sigmas[i + 1] - sigmas[i]) * (
        plain[i] + sigmas[i] * plain[i] @ kernel))
  sizes = [np.linalg.norm(sigma * x @ kernel, axis=-1)
           for sigma, x in zip(sigmas[:-1], plain, strict=True)]
  np.testing.assert_allclose(ratios[:4], [1.0, *(
      np.mean(after / before)
      for before, after in itertools.pairwise(sizes))], rtol=1e-4)
