"""Samplers: from noise to data by a network's predictions, as scans.

Flow samplers read `sigmas`, a host array f64[n + 1] that falls from noise to
0 (tau of `process`), and `predict(x, t)` that returns the velocity at x, where
t = 1000 tau is one number for all. Every solver's coefficients are computed
on the host in float64; the scan only mixes arrays.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax import errors, types
from dreamgen_jax.diffusion import process

Predict = Callable[[types.Array, types.Array], types.Array]

# (first, last) time before the shift; the last one is left out.
WAN_SPANS = {
    "unipc_diffusers": (1.0, 0.001),
    "unipc_official": (0.999, 0.0),
    "dpm_diffusers": (0.999, 0.0),
    "dpm_official": (1.0, 0.0),
}


def wan_sigmas(
    steps: int, shift: float, span: str = "unipc_diffusers"
) -> np.ndarray:
  """Sigmas f64[steps + 1] of Wan's samplers; `span` is one of WAN_SPANS.

  Raises:
    ConfigError: an unknown span.
  """
  if span not in WAN_SPANS:
    raise errors.ConfigError(
        f"Sigma span {span!r}; have: {', '.join(WAN_SPANS)}."
    )
  return shifted_sigmas(np.linspace(*WAN_SPANS[span], steps + 1)[:-1], shift)


def euler_sigmas(steps: int, shift: float) -> np.ndarray:
  """Sigmas f64[steps + 1] of diffusers' flow-matching Euler sampler."""
  last = process.shift(1 / process.TRAIN_STEPS, shift)
  return shifted_sigmas(np.linspace(1.0, last, steps), shift)


def shifted_sigmas(taus: types.Array, shift: float) -> np.ndarray:
  """Given times f64[n], shifted and closed by 0: f64[n + 1].

  The four-step distillations of Wan use (1, 0.75, 0.5, 0.25) at shift 5.
  """
  taus = np.asarray(taus, np.float64)
  return np.append(process.shift(taus, shift), 0.0)


def euler(
    predict: Predict, x: types.Array, sigmas: np.ndarray
) -> types.Array:
  """Straight steps along the velocity, from x at sigmas[0] to 0."""
  def step(x, row):
    t, move = row
    return x + move * predict(x, t), None

  rows = _columns(1000 * sigmas[:-1], np.diff(sigmas))
  return jax.lax.scan(step, x, rows)[0]


def unipc(
    predict: Predict, x: types.Array, sigmas: np.ndarray
) -> types.Array:
  """UniPC (arXiv 2302.04867): data prediction, B(h) = e^h - 1, order 2.

  The first correction and the last prediction are of order 1. The network
  sees whole times, 1000 tau rounded down, as the released samplers have it.

  Args:
    predict: see the file's docstring.
    x: noise [b, ...].
    sigmas: see the file's docstring; the first is kept below 1.

  Returns:
    Data [b, ...].
  """
  sigmas = np.minimum(sigmas, 1 - 1e-6)
  return _multistep(predict, x, sigmas, _corrector(sigmas))


def dpm_solver(
    predict: Predict, x: types.Array, sigmas: np.ndarray
) -> types.Array:
  """DPM-Solver++ 2M (arXiv 2211.01095): UniPC's predictor alone."""
  corrector = np.zeros((len(sigmas) - 1, 5))
  corrector[:, 0] = 1.0
  return _multistep(predict, x, sigmas, corrector)


def _multistep(predict, x, sigmas, corrector):
  """Each row of `corrector` weighs (x, last x, last data, older data, data)."""
  predictor = _predictor(sigmas)

  def step(carry, row):
    x, last_x, last_data, older_data = carry
    t, sigma, correct, advance = row
    data = x - sigma * predict(x, t)
    x = _mix(correct, (x, last_x, last_data, older_data, data))
    ahead = _mix(advance, (x, data, last_data))
    return (ahead, x, data, last_data), None

  rows = _columns(np.floor(1000 * sigmas[:-1]), sigmas[:-1], corrector,
                  predictor)
  zero = jnp.zeros_like(x)
  return jax.lax.scan(step, (x, zero, zero, zero), rows)[0][0]


def _mix(weights, arrays):
  terms = zip(weights, arrays, strict=True)
  return sum(weight.astype(array.dtype) * array for weight, array in terms)


def _columns(*columns):
  return tuple(jnp.asarray(column, jnp.float32) for column in columns)


def _log_ratio(sigmas):
  """Half the log of signal to noise power at each sigma; infinite at 0, 1."""
  with np.errstate(divide="ignore"):
    return np.log1p(-sigmas) - np.log(sigmas)


def _predictor(sigmas):
  """Weights f64[n, 3] of (x, data, last data) for x at the next sigma."""
  level, count = _log_ratio(sigmas), len(sigmas) - 1
  out = np.zeros((count, 3))
  for i in range(count):
    h = level[i + 1] - level[i]
    gain = -(1 - sigmas[i + 1]) * np.expm1(-h)
    slope = 0.0
    if 0 < i < count - 1:
      slope = 0.5 * h / (level[i] - level[i - 1])
    out[i] = (sigmas[i + 1] / sigmas[i], gain * (1 + slope), -gain * slope)
  return out


def _corrector(sigmas):
  """Weights f64[n, 5] of (x, last x, last data, older data, data)."""
  level, count = _log_ratio(sigmas), len(sigmas) - 1
  out = np.zeros((count, 5))
  out[0, 0] = 1.0
  for i in range(1, count):
    h = level[i] - level[i - 1]
    gain = -(1 - sigmas[i]) * np.expm1(-h)
    if i == 1:
      older, newer, ratio = 0.0, 0.5, 1.0
    else:
      ratio = (level[i - 2] - level[i - 1]) / h
      first = np.expm1(-h) / -h - 1
      second = first / -h - 0.5
      right = np.array([first, 2 * second]) / np.expm1(-h)
      older, newer = np.linalg.solve([[1.0, 1.0], [ratio, 1.0]], right)
    out[i] = (
        0.0,
        sigmas[i] / sigmas[i - 1],
        gain * (1 - older / ratio - newer),
        gain * older / ratio,
        gain * newer,
    )
  return out


def ddim(
    predict: Predict,
    x: types.Array,
    alphas: np.ndarray,
    steps: int,
    *,
    target: str = "epsilon",
    offset: int = 0,
    end_at_data: bool = True,
) -> types.Array:
  """DDIM (arXiv 2010.02502) without noise, data clipped to [-1, 1].

  Args:
    predict: (x, step i32[]) -> noise or data.
    x: noise [b, ...].
    alphas: cumulative alphas f32[T] of `process.squared_cosine`.
    steps: network calls, at most T.
    target: what `predict` returns, "epsilon" (noise) or "sample" (data).
    offset: added to every step that the network sees.
    end_at_data: the last step arrives at data, else at alphas[0].

  Returns:
    Data [b, ...].

  Raises:
    ConfigError: an unknown target, or steps beyond T.
  """
  _check_ddpm(target, steps, len(alphas))
  stride = len(alphas) // steps
  times = np.arange(steps)[::-1] * stride + offset
  before = times - stride
  end = 1.0 if end_at_data else alphas[0]
  rows = _columns(alphas[times], np.where(before < 0, end, alphas[before]))

  def step(x, row):
    t, alpha, ahead = row
    data, noise = _data_and_noise(predict(x, t), x, alpha, target)
    return jnp.sqrt(ahead) * data + jnp.sqrt(1 - ahead) * noise, None

  times = jnp.asarray(times, jnp.int32)
  return jax.lax.scan(step, x, (times, *rows))[0]


def ddpm(
    predict: Predict,
    x: types.Array,
    alphas: np.ndarray,
    draw: Callable[[types.Array], types.Array],
    *,
    target: str = "epsilon",
    variance: str = "fixed_small",
) -> types.Array:
  """Ancestral sampling through all T steps, data clipped to [-1, 1].

  Args:
    predict, x, alphas, target: see `ddim`.
    draw: step i32[] -> unit noise of x's shape, e.g. by `fold_in(key, step)`;
      what it returns for step 0 is not used.
    variance: of a step; "fixed_small" (the posterior's) or "fixed_large"
      (the step's beta).

  Returns:
    Data [b, ...].

  Raises:
    ConfigError: an unknown target or variance.
  """
  _check_ddpm(target, len(alphas), len(alphas))
  if variance not in ("fixed_small", "fixed_large"):
    raise errors.ConfigError(
        f"Variance {variance!r}; have: fixed_small, fixed_large."
    )
  alphas = np.asarray(alphas, np.float64)
  before = np.append(1.0, alphas[:-1])
  beta = 1 - alphas / before
  from_data = np.sqrt(before) * beta / (1 - alphas)
  from_x = np.sqrt(alphas / before) * (1 - before) / (1 - alphas)
  power = beta
  if variance == "fixed_small":
    power = np.maximum(beta * (1 - before) / (1 - alphas), 1e-20)
  deviation = np.sqrt(power)
  deviation[0] = 0.0
  rows = _columns(*(column[::-1] for column in (
      alphas, from_data, from_x, deviation)))

  def step(x, row):
    t, alpha, from_data, from_x, deviation = row
    data, _ = _data_and_noise(predict(x, t), x, alpha, target)
    return from_data * data + from_x * x + deviation * draw(t), None

  times = jnp.arange(len(alphas), dtype=jnp.int32)[::-1]
  return jax.lax.scan(step, x, (times, *rows))[0]


def _check_ddpm(target, steps, total):
  if target not in ("epsilon", "sample"):
    raise errors.ConfigError(
        f"Prediction target {target!r}; have: epsilon, sample."
    )
  if not 1 <= steps <= total:
    raise errors.ConfigError(
        f"{steps} sampler steps; the schedule has 1 to {total}."
    )


def _data_and_noise(prediction, x, alpha, target):
  """(data clipped to [-1, 1], noise as predicted)."""
  signal, spread = jnp.sqrt(alpha), jnp.sqrt(1 - alpha)
  if target == "epsilon":
    data, noise = (x - spread * prediction) / signal, prediction
  else:
    data, noise = prediction, (x - signal * prediction) / spread
  return jnp.clip(data, -1.0, 1.0), noise
