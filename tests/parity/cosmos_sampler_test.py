"""Cosmos's samplers against NVIDIA's and diffusers' own, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax.diffusion import edm, process
from tests import golden_cases


@edm.precondition
def _toy(x, tau):
  return 0.5 * x + 0.1 * jnp.sin(3 * x) + 0.3 * jnp.cos(tau)


@pytest.mark.parametrize("case, name, solver", [
    ("schedulers", "cosmos_official_ab2", edm.adams_bashforth),
    *[pytest.param(*run.values, edm.euler, id=run.id, marks=run.marks)
      for run in golden_cases.sampler_runs(
          "FlowMatchEulerDiscreteScheduler", karras=True)]])
def test_sampler(golden, case, name, solver):
  _, files = golden(case)
  outputs = {
      key.removeprefix(f"{name}/"): value
      for key, value in files["outputs"].items()
      if key.startswith(f"{name}/")
  }
  count = len(outputs["x"]) + ("final" in outputs)
  sigmas = edm.karras_sigmas(count)
  np.testing.assert_allclose(sigmas, outputs["sigmas"][:count], rtol=1e-6)

  seen = []

  def recorded(x, sigma):
    seen.append(np.asarray(x))
    return _toy(x, sigma)

  x = 80.0 * jnp.asarray(files["inputs"]["x_init"])
  with jax.disable_jit():
    final = np.asarray(solver(recorded, x, sigmas))
  steps = outputs["x"]
  if "final" in outputs:
    assert len(seen) == count
    np.testing.assert_allclose(final, outputs["final"], atol=2e-5)
  else:  # the last of diffusers' calls moves nothing, and is not made
    assert len(seen) == count - 1
    np.testing.assert_array_equal(steps[-1], steps[-2])
    np.testing.assert_allclose(final, steps[-1], atol=2e-5)
    seen.append(final)
  np.testing.assert_allclose(
      np.stack(seen[1:]), steps[:count - 1], atol=2e-5, rtol=1e-6)
  compiled = jax.jit(lambda x: solver(_toy, x, sigmas))(x)
  np.testing.assert_allclose(compiled, final, atol=2e-5)


def test_a_level_is_a_mixture():
  """Data + sigma noise, scaled by 1 - tau, is the flow's mixture at tau."""
  keys = jax.random.split(jax.random.key(0), 2)
  data, noise = (jax.random.normal(key, (3, 4)) for key in keys)
  sigma = 2.5
  tau = jnp.full(3, edm.tau(sigma))
  mixture = process.corrupt(data, noise, tau)
  np.testing.assert_allclose(
      mixture, (1 - tau[0]) * (data + sigma * noise), atol=1e-6)
  exact = edm.precondition(lambda x, t: noise - data)
  np.testing.assert_allclose(
      exact(data + sigma * noise, sigma), data, atol=1e-6)

  # The loss's equality: the weighted error of the data is the velocity's.
  off = edm.precondition(lambda x, t: noise - data + 0.3)
  error = (off(data + sigma * noise, sigma) - data) ** 2
  np.testing.assert_allclose(
      ((1 + sigma) / sigma) ** 2 * error, 0.3 ** 2, rtol=1e-4)


def test_levels_to_train_at():
  sigma = edm.sample_sigma(jax.random.key(0), 20_000, 24 ** 0.5)
  logs = np.log(sigma)
  assert abs(logs.mean() - 0.5 * np.log(24)) < 0.03
  assert abs(logs.std() - 1) < 0.03
