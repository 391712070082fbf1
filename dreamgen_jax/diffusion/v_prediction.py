"""Diffusion by v (arXiv 2202.00512) down to pure noise (arXiv 2305.08891).

In the variance-preserving process x = a data + s noise with a^2 + s^2 = 1 the
network predicts v = a noise - s data, which is defined where a is 0 too. Whole
steps 0..T-1 and their cumulative alphas, a^2, as in `process`; the last alpha
is 0, and nothing here divides by it. CogVideoX is trained and sampled so.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax import errors, types
from dreamgen_jax.diffusion import process, sample


def alphas(
    steps: int = process.TRAIN_STEPS,
    *,
    first: float = 0.00085,
    last: float = 0.012,
    snr_shift: float = 1.0,
) -> np.ndarray:
  """Cumulative alphas f64[steps], the last one 0.

  Args:
    steps: T.
    first, last: betas at both ends; their roots are spaced evenly.
    snr_shift: k in alpha / (k + (1 - k) alpha), before the end is moved to 0
      (CogVideoX-2B has 3, the others 1).
  """
  betas = np.linspace(first**0.5, last**0.5, steps) ** 2
  level = np.cumprod(1 - betas)
  root = np.sqrt(level / (snr_shift + (1 - snr_shift) * level))
  return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def velocity(
    alphas: np.ndarray, data: types.Array, noise: types.Array,
    step: types.Array,
) -> types.Array:
  """What the network predicts: data, noise [b, ...], step i32[b]."""
  signal, spread = _scales(alphas, step, data)
  return signal * noise - spread * data


def data(
    alphas: np.ndarray, noisy: types.Array, velocity: types.Array,
    step: types.Array,
) -> types.Array:
  """What noisy data [b, ...] was, if this was its v at step i32[b]."""
  signal, spread = _scales(alphas, step, noisy)
  return signal * noisy - spread * velocity


def flow_error(
    alphas: np.ndarray, error: types.Array, step: types.Array
) -> types.Array:
  """Squared error of v f32[b] at step i32[b] -> that of noise - data.

  data = a x - s v and noise = s x + a v, so their difference moves a + s times
  as far as v does.
  """
  signal, spread = _scales(alphas, step, error)
  return (signal + spread) ** 2 * error


def _scales(alphas, step, like):
  """(a, s) of the steps, each of the rank and dtype of `like`."""
  alpha = jnp.asarray(alphas, jnp.float32)[step].astype(like.dtype)
  alpha = alpha.reshape(alpha.shape + (1,) * (like.ndim - alpha.ndim))
  return jnp.sqrt(alpha), jnp.sqrt(1 - alpha)


def ddim(
    predict: sample.Predict, x: types.Array, alphas: np.ndarray, steps: int
) -> types.Array:
  """DDIM (arXiv 2010.02502) without noise and without clipping.

  Args:
    predict: (x, step f32[]) -> v.
    x: noise [b, ...].
    alphas: of `alphas`.
    steps: network calls, at most T; the first one is at step T-1.

  Returns:
    Data [b, ...]; with the noise of step 0 left in it where a whole number of
    strides, T // steps, does not fit, as in 7 steps of 1000. So the released
    samplers do it.

  Raises:
    ConfigError: no steps, or more than T.
  """
  times, level, ahead = _route(alphas, steps)
  keep = np.sqrt((1 - ahead) / (1 - level))
  gain = np.sqrt(ahead) - np.sqrt(level) * keep
  rows = _columns(times, np.sqrt(level), np.sqrt(1 - level), keep, gain)

  def step(x, row):
    t, signal, spread, keep, gain = row
    data = signal * x - spread * predict(x, t)
    return keep * x + gain * data, None

  return jax.lax.scan(step, x, rows)[0]


def dpm_solver(
    predict: sample.Predict,
    x: types.Array,
    alphas: np.ndarray,
    steps: int,
    draw: Callable[[types.Array], types.Array],
) -> types.Array:
  """SDE DPM-Solver++ 2M (arXiv 2211.01095), fresh noise at every step.

  The first two steps, and the last if it arrives at data, are of order 1: what
  precedes them, or what follows, lies infinitely far away in the log of signal
  to noise.

  Args:
    predict, x, alphas, steps: see `ddim`.
    draw: number of the call i32[] -> unit noise of x's shape, e.g. by
      `fold_in(key, number)`; what it returns for one that arrives at data is
      not used.

  Returns:
    Data [b, ...]; see `ddim` about the noise that may be left.

  Raises:
    ConfigError: no steps, or more than T.
  """
  times, level, ahead = _route(alphas, steps)
  # e^-h, with h the way in half the log of signal to noise power.
  shrink = np.sqrt(level * (1 - ahead) / ((1 - level) * ahead))
  keep = np.sqrt((1 - ahead) / (1 - level)) * shrink
  gain = np.sqrt(ahead) * (1 - shrink**2)
  deviation = np.sqrt((1 - ahead) * (1 - shrink**2))
  slope = np.zeros(steps)
  for i in range(2, steps - (ahead[-1] == 1)):
    way = -np.log(shrink[i])
    slope[i] = 0.5 * way / (_log_ratio(level[i]) - _log_ratio(level[i - 1]))
  rows = _columns(times, np.sqrt(level), np.sqrt(1 - level), keep,
                  gain * (1 + slope), -gain * slope, deviation)

  def step(carry, row):
    x, last_data = carry
    number, (t, signal, spread, keep, gain, last_gain, deviation) = row
    data = signal * x - spread * predict(x, t)
    x = keep * x + gain * data + last_gain * last_data
    return (x + deviation * draw(number), data), None

  carry = (x, jnp.zeros_like(x))
  return jax.lax.scan(step, carry, (jnp.arange(steps), rows))[0][0]


def _route(alphas, steps):
  """(step of each call, its alpha, the alpha that it moves to)."""
  total = len(alphas)
  if not 1 <= steps <= total:
    raise errors.ConfigError(
        f"{steps} sampler steps; the schedule has 1 to {total}.")
  times = np.round((steps - np.arange(steps)) * total / steps).astype(int) - 1
  # As released: a whole stride ahead, which may be one beside the next call;
  # the last call arrives at data only if that lies before step 0.
  target = times - total // steps
  return times, alphas[times], np.where(
      target < 0, 1.0, alphas[np.maximum(target, 0)])


def _log_ratio(alpha):
  """Half the log of signal to noise power."""
  return 0.5 * np.log(alpha / (1 - alpha))


def _columns(*columns):
  return tuple(jnp.asarray(column, jnp.float32) for column in columns)
