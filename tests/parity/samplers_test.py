"""The samplers against diffusers' and the official ones, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax.diffusion import process, sample
from tests import golden_cases

OFFICIAL = {
    "wan_official_unipc_shift3_n4": (
        sample.unipc, sample.wan_sigmas(4, 3, "unipc_official")),
    "wan_official_unipc_shift3_n10": (
        sample.unipc, sample.wan_sigmas(10, 3, "unipc_official")),
    "wan_official_dpmpp_shift5_n4": (
        sample.dpm_solver, sample.wan_sigmas(4, 5, "dpm_official")),
}


def _ours(entry):
  """The solver and sigmas that a run of diffusers describes."""
  config, asked = entry["config"], entry["set_timesteps"]
  if entry["class"] == "FlowMatchEulerDiscreteScheduler":
    if "sigmas" in asked:
      return sample.euler, sample.shifted_sigmas(
          asked["sigmas"], config["shift"])
    return sample.euler, sample.euler_sigmas(
        asked["num_inference_steps"], config["shift"])
  solver, span = {
      "UniPCMultistepScheduler": (sample.unipc, "unipc_diffusers"),
      "DPMSolverMultistepScheduler": (sample.dpm_solver, "dpm_diffusers"),
  }[entry["class"]]
  return solver, sample.wan_sigmas(
      asked["num_inference_steps"], config["flow_shift"], span)


@pytest.mark.parametrize("case, name", [
    *golden_cases.sampler_runs(
        "FlowMatchEulerDiscreteScheduler", "UniPCMultistepScheduler",
        "DPMSolverMultistepScheduler"),
    *[("schedulers", name) for name in OFFICIAL]])
def test_flow_samplers(golden, case, name):
  config, files = golden(case)
  solver, sigmas = OFFICIAL.get(name) or _ours(config["schedulers"][name])
  outputs = {
      key.removeprefix(f"{name}/"): value
      for key, value in files["outputs"].items()
      if key.startswith(f"{name}/")
  }
  np.testing.assert_allclose(sigmas, outputs["sigmas"], atol=2e-6)

  seen, times = [], []

  def predict(x, t):
    seen.append(np.asarray(x))
    times.append(float(t))
    return 0.5 * x + 0.1 * jnp.sin(3 * x) + 0.3 * jnp.cos(t / 1000)

  x = jnp.asarray(files["inputs"]["x_init"])
  with jax.disable_jit():
    final = solver(predict, x, sigmas)
  np.testing.assert_allclose(times, outputs["timesteps"], rtol=1e-6)
  np.testing.assert_allclose(
      np.stack([*seen[1:], np.asarray(final)]), outputs["x"], atol=5e-6)
  compiled = jax.jit(lambda x: solver(
      lambda x, t: 0.5 * x + 0.1 * jnp.sin(3 * x) + 0.3 * jnp.cos(t / 1000),
      x, sigmas))(x)
  np.testing.assert_allclose(compiled, final, atol=1e-5)


@pytest.fixture
def policy(golden):
  _, files = golden("dp_schedulers")
  tensors = files["dp_schedulers"]
  matrix = jnp.asarray(tensors["in/A"])

  def predict(x, t):
    return jnp.tanh(x @ matrix + 0.01 * t)

  return tensors, predict


def test_squared_cosine(policy):
  tensors, _ = policy
  alphas = process.squared_cosine(100)
  np.testing.assert_allclose(alphas, tensors["out/alphas_cumprod"], atol=1e-6)
  noisy = process.corrupt_ddpm(
      alphas, jnp.asarray(tensors["in/x0"]), tensors["in/noise"],
      jnp.asarray([10, 90]))
  np.testing.assert_allclose(
      noisy, tensors["out/add_noise_t10_t90"], atol=1e-6)


@pytest.mark.parametrize(
    "name, steps, options",
    [("ddim16", 16, {}),
     ("ddim10_noone", 10, {"offset": 1, "end_at_data": False})],
)
def test_ddim(policy, name, steps, options):
  tensors, predict = policy
  alphas = process.squared_cosine(100)
  times = []

  def recorded(x, t):
    times.append(int(t))
    return predict(x, t)

  with jax.disable_jit():
    final = sample.ddim(
        recorded, jnp.asarray(tensors["in/noise"]), alphas, steps, **options)
  np.testing.assert_array_equal(times, tensors[f"out/{name}_timesteps"])
  np.testing.assert_allclose(final, tensors[f"out/{name}_final"], atol=5e-5)


@pytest.mark.parametrize(
    "target, variance",
    [("epsilon", "fixed_small"), ("epsilon", "fixed_large"),
     ("sample", "fixed_small")],
)
def test_ddpm(policy, target, variance):
  tensors, predict = policy
  name = f"out/ddpm_{target}_{variance}_final"
  noise = jnp.asarray(tensors["in/ddpm_z"])[::-1]  # by step
  final = jax.jit(lambda x: sample.ddpm(
      predict, x, process.squared_cosine(100), lambda t: noise[t],
      target=target, variance=variance))(jnp.asarray(tensors["in/noise"]))
  np.testing.assert_allclose(final, tensors[name], atol=5e-5)
