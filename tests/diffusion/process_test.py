"""Flow matching's identities, training times and weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import errors
from dreamgen_jax.diffusion import process


def test_velocity_leads_back_to_data():
  keys = jax.random.split(jax.random.key(0))
  data, noise = (jax.random.normal(key, (3, 2, 4)) for key in keys)
  tau = jnp.array([0.0, 0.4, 1.0])
  noisy = process.corrupt(data, noise, tau)
  np.testing.assert_allclose(noisy[0], data[0])
  np.testing.assert_allclose(noisy[2], noise[2])
  back = noisy - tau[:, None, None] * process.velocity(data, noise)
  np.testing.assert_allclose(back, data, atol=1e-6)


@pytest.mark.parametrize("density", ["uniform", "logit_normal"])
def test_shift_moves_times_towards_noise(density):
  def draw(shift):
    return process.sample_tau(
        jax.random.key(1), 4096, shift=shift, density=density)
  plain, shifted = draw(1.0), draw(5.0)
  assert plain.min() > 0 and shifted.max() <= 1
  assert abs(float(plain.mean()) - 0.5) < 0.02
  np.testing.assert_allclose(shifted, 5 * plain / (1 + 4 * plain), rtol=1e-5)


def test_unknown_density_names_the_known_ones():
  with pytest.raises(errors.ConfigError, match="uniform, logit_normal"):
    process.sample_tau(jax.random.key(0), 1, density="beta")


def test_weight_is_the_table_of_the_released_recipe():
  sigmas = np.linspace(1, 0, 1001)[:-1]
  times = 1000 * 5 * sigmas / (1 + 4 * sigmas)
  bell = np.exp(-2 * ((times - 500) / 1000) ** 2)
  table = (bell - bell.min()) * 1000 / (bell - bell.min()).sum()
  ours = process.weight(jnp.asarray(times / 1000, jnp.float32), shift=5.0)
  np.testing.assert_allclose(ours, table, atol=1e-5)
  assert abs(float(ours.mean()) - 1) < 1e-5
