"""Guidance in both conventions equals the two branches run apart."""

import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import errors
from dreamgen_jax.diffusion import guide


def _predict(x, t, inputs):
  _predict.batches.append(len(x))
  return x * inputs["a"] + t


def _guided(scale, base):
  _predict.batches = []
  x = jnp.array([[1.0], [2.0]])
  cond = {"a": jnp.array([[3.0], [5.0]])}
  uncond = {"a": jnp.array([[1.0], [0.0]])}
  guided = guide.classifier_free(_predict, scale, base=base)
  return guided(x, 0.5, (cond,), (uncond,)), _predict.batches


@pytest.mark.parametrize(
    "scale, base, expected",
    [
        (5.0, "uncond", [[1.5 + 5 * 2], [0.5 + 5 * 10]]),
        (7.0, "cond", [[3.5 + 7 * 2], [10.5 + 7 * 10]]),
    ],
)
def test_both_conventions(scale, base, expected):
  out, batches = _guided(scale, base)
  np.testing.assert_allclose(out, expected)
  assert batches == [4]


@pytest.mark.parametrize("scale, base", [(1.0, "uncond"), (0.0, "cond")])
def test_no_guidance_runs_one_branch(scale, base):
  out, batches = _guided(scale, base)
  np.testing.assert_allclose(out, [[3.5], [10.5]])
  assert batches == [2]


def test_a_scale_of_the_time_runs_both_branches():
  out, batches = _guided(lambda t: 2 * t, "uncond")
  np.testing.assert_allclose(out, [[3.5], [10.5]])  # 1 at time 0.5
  assert batches == [4]


def test_unknown_base():
  with pytest.raises(errors.ConfigError, match="uncond, cond"):
    guide.classifier_free(_predict, 1.0, base="none")
