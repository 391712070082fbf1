"""EDM (arXiv 2206.00364) as Cosmos-Predict2 uses it: pure functions of arrays.

Noise has a level sigma in (0, inf): x = data + sigma noise. Scaled by
1 - tau with tau = sigma / (1 + sigma), x is the mixture of `process.corrupt`
at tau, and so the network behind it is a flow model in the house convention.

Samplers read `sigmas`, a host array f64[n] that falls to the least level, and
`denoise(x, sigma)` that returns data at x, where sigma is one number for all.
Coefficients are computed on the host in float64; the scan only mixes arrays.
Source: cosmos-predict2 `schedulers/rectified_flow_scheduler.py`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax import types

Denoise = Callable[[types.Array, types.Array], types.Array]


def karras_sigmas(count: int, lowest: float = 0.002, highest: float = 80.0,
                  rho: float = 7.0) -> np.ndarray:
  """Levels f64[count], evenly spaced in sigma^(1 / rho), highest first."""
  roots = np.linspace(highest ** (1 / rho), lowest ** (1 / rho), count)
  return roots**rho


def sample_sigma(rng: types.Array, batch: int, scale: float) -> types.Array:
  """Levels to train at, f32[b]: scale times the exponential of a unit normal.

  Cosmos scales by the root of the number of latent frames: what neighbouring
  frames share must drown in noise too.
  """
  return scale * jnp.exp(jax.random.normal(rng, (batch,)))


def tau(sigma: types.Array) -> types.Array:
  """Time in [0, 1) of a level: sigma / (1 + sigma)."""
  return sigma / (1 + sigma)


def precondition(velocity: Callable[..., types.Array]
                 ) -> Callable[..., types.Array]:
  """A flow model as a denoiser; c_in = c_skip = 1 - tau and c_out = -tau.

  Args:
    velocity: (mixture [b, ...], tau, *inputs) -> noise - data, [b, ...].

  Returns:
    (x [b, ...], one sigma, *inputs) -> data [b, ...].
  """
  def denoise(x, sigma, *inputs):
    time = tau(sigma)
    mixture = (1 - time) * x
    return mixture - time * velocity(mixture, time, *inputs)

  return denoise


def euler(denoise: Denoise, x: types.Array, sigmas: np.ndarray) -> types.Array:
  """Straight steps, n - 1 network calls; arrives at sigmas[-1], not at data.

  Equals diffusers' pipeline with n steps, whose last call moves nothing.
  """
  def step(x, row):
    sigma, ratio = row
    data = denoise(x, sigma)
    return data + ratio * (x - data), None

  rows = _columns(sigmas[:-1], sigmas[1:] / sigmas[:-1])
  return jax.lax.scan(step, x, rows)[0]


def adams_bashforth(denoise: Denoise, x: types.Array,
                    sigmas: np.ndarray) -> types.Array:
  """Two-step Adams-Bashforth on data in the log of the level, n network calls.

  The first step is Euler's; the last call replaces x at sigmas[-1] by data.
  """
  def step(carry, row):
    x, last_data = carry
    sigma, keep, new, last = row
    data = denoise(x, sigma)
    return (keep * x + new * data + last * last_data, data), None

  rows = _columns(sigmas[:-1], *_two_step(sigmas).T)
  x = jax.lax.scan(step, (x, jnp.zeros_like(x)), rows)[0][0]
  return denoise(x, jnp.float32(sigmas[-1]))


def _two_step(sigmas):
  """Weights f64[n - 1, 3] of (x, data, last data) for x at the next level."""
  level = -np.log(sigmas)
  out = np.zeros((len(sigmas) - 1, 3))
  for i in range(len(out)):
    h = level[i + 1] - level[i]
    # Integrals over the step of e^(s - h) and of s e^(s - h) / h.
    whole = -np.expm1(-h)
    ramp = 1 - whole / h
    slope = h / (level[i] - level[i - 1]) * ramp if i else 0.0
    out[i] = np.exp(-h), whole + slope, -slope
  return out


def _columns(*columns):
  return tuple(jnp.asarray(column, jnp.float32) for column in columns)
