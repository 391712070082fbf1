"""CogVideoX's schedule and samplers against diffusers', step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import errors
from dreamgen_jax.diffusion import process, v_prediction
from tests import golden_cases


def _toy(x, t):
  return 0.5 * x + 0.1 * jnp.sin(3 * x) + 0.3 * jnp.cos(t / 1000)


def _outputs(golden, case, name):
  config, files = golden(case)
  inputs, outputs = ({
      key.removeprefix(f"{name}/"): value for key, value in files[part].items()}
      for part in ("inputs", "outputs"))
  entry = config["schedulers"][name]
  alphas = v_prediction.alphas(snr_shift=entry["config"]["snr_shift_scale"])
  return alphas, jnp.asarray(inputs["x_init"]), inputs.get("noise"), outputs


def _walk(sampler, x):
  """(steps that the network saw, every x after the first)."""
  seen, times = [], []

  def predict(x, t):
    seen.append(np.asarray(x))
    times.append(float(t))
    return _toy(x, t)

  with jax.disable_jit():
    final = sampler(predict, x)
  return times, np.stack([*seen[1:], np.asarray(final)])


@pytest.mark.parametrize(
    "case, name", golden_cases.sampler_runs("CogVideoXDDIMScheduler"))
def test_ddim(golden, case, name):
  alphas, x, _, outputs = _outputs(golden, case, name)
  np.testing.assert_allclose(alphas, outputs["alphas_cumprod"], atol=1e-6)
  assert alphas[-1] == 0
  steps = len(outputs["timesteps"])
  times, walk = _walk(
      lambda predict, x: v_prediction.ddim(predict, x, alphas, steps), x)
  np.testing.assert_array_equal(times, outputs["timesteps"])
  np.testing.assert_allclose(walk, outputs["x"], atol=5e-6)


@pytest.mark.parametrize(
    "case, name", golden_cases.sampler_runs("CogVideoXDPMScheduler"))
def test_dpm_solver(golden, case, name):
  alphas, x, noise, outputs = _outputs(golden, case, name)
  steps = len(outputs["timesteps"])
  # One draw for a step of order 1, the first and, where it arrives at data,
  # the last; two for one of order 2, of which the second counts.
  arrives = outputs["timesteps"][-1] < len(alphas) // steps
  assert len(noise) == 2 * steps - 1 - arrives
  draws = jnp.asarray(noise)[jnp.minimum(
      jnp.arange(0, 2 * steps, 2), len(noise) - 1)]
  times, walk = _walk(lambda predict, x: v_prediction.dpm_solver(
      predict, x, alphas, steps, lambda i: draws[i]), x)
  np.testing.assert_array_equal(times, outputs["timesteps"])
  np.testing.assert_allclose(walk, outputs["x"], atol=5e-6)


@pytest.mark.parametrize("steps, left", [(1, 0), (2, 0), (50, 0), (7, 0.0292)])
def test_samplers_arrive_at_the_data(steps, left):
  """With the true v of one clip; 7 strides of 142 do not reach the end."""
  data = jnp.asarray([[0.7, -1.3]])
  alphas = v_prediction.alphas()

  def predict(x, t):
    alpha = jnp.asarray(alphas, jnp.float32)[t.astype(int)]
    return (jnp.sqrt(alpha) * x - data) / jnp.sqrt(1 - alpha)

  def draw(number):
    return jax.random.normal(jax.random.key(number), data.shape)

  noise = draw(100)
  expected = np.sqrt(1 - left**2) * data + left * noise
  np.testing.assert_allclose(  # strides miss the next call's step by one, too
      v_prediction.ddim(predict, noise, alphas, steps), expected,
      atol=5e-4 if left else 1e-4)
  found = v_prediction.dpm_solver(predict, noise, alphas, steps, draw)
  if left:  # noise of its own
    assert 0 < np.abs(found - data).max() < 4 * left
  else:
    np.testing.assert_allclose(found, data, atol=1e-4)


def test_velocity_and_its_error():
  alphas = v_prediction.alphas()
  keys = jax.random.split(jax.random.key(0), 3)
  data, noise, off = (jax.random.normal(key, (3, 4)) for key in keys)
  step = jnp.array([0, 400, 999])
  a, s = (np.sqrt(level)[:, None] for level in (alphas[step], 1 - alphas[step]))
  x = process.corrupt_ddpm(alphas, data, noise, step)
  v = v_prediction.velocity(alphas, data, noise, step)
  np.testing.assert_allclose(a * x - s * v, data, atol=1e-5)
  np.testing.assert_allclose(s * x + a * v, noise, atol=1e-5)
  # Of a v that is off: the data's error over 1 - alpha, and the flow's.
  found = a * x - s * (v + off), s * x + a * (v + off)
  np.testing.assert_allclose(
      (found[0] - data) ** 2 / s**2, off**2, rtol=1e-2, atol=1e-4)
  np.testing.assert_allclose(
      v_prediction.flow_error(alphas, off**2, step),
      (found[1] - found[0] - (noise - data)) ** 2, rtol=1e-3, atol=1e-5)


def test_steps_beyond_the_schedule():
  alphas = v_prediction.alphas()
  for steps in (0, 1001):
    with pytest.raises(errors.ConfigError, match="1 to 1000"):
      v_prediction.ddim(_toy, jnp.ones((1, 2)), alphas, steps)
