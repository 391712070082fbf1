"""How data turns into noise, and what a network learns from it.

Flow matching in the house convention: `tau` in [0, 1], 0 is data, 1 is noise,
x = (1 - tau) data + tau noise, velocity = noise - data. DDPM (arXiv
2006.11239) in its own: whole steps 0..T-1 and their cumulative alphas.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax import errors, types

TRAIN_STEPS = 1000  # Times that the released flow models were trained at.


def shift(tau: types.Array, amount: float) -> types.Array:
  """Moves times towards noise: amount tau / (1 + (amount - 1) tau)."""
  return amount * tau / (1 + (amount - 1) * tau)


def unshift(tau: types.Array, amount: float) -> types.Array:
  """The inverse of `shift`."""
  return tau / (amount - (amount - 1) * tau)


def corrupt(
    data: types.Array, noise: types.Array, tau: types.Array
) -> types.Array:
  """Data [b, ...] and noise of its shape, mixed at tau [b]."""
  tau = _broadcast(tau, data)
  return (1 - tau) * data + tau * noise


def data(
    noisy: types.Array, velocity: types.Array, tau: types.Array
) -> types.Array:
  """What noisy data [b, ...] was, if this was its velocity at tau [b]."""
  return noisy - _broadcast(tau, noisy) * velocity


def velocity(data: types.Array, noise: types.Array) -> types.Array:
  """What a flow model predicts."""
  return noise - data


def sample_tau(
    rng: types.Array,
    batch: int,
    *,
    shift: float = 1.0,
    density: str = "uniform",
) -> types.Array:
  """Times to train at.

  Args:
    rng: key.
    batch: how many.
    shift: see `shift`; Wan trains at 5.
    density: before the shift; "uniform" over TRAIN_STEPS equal steps, or
      "logit_normal", the sigmoid of a unit normal (arXiv 2403.03206).

  Returns:
    f32[b] in (0, 1].

  Raises:
    ConfigError: an unknown density.
  """
  if density == "uniform":
    index = jax.random.randint(rng, (batch,), 1, TRAIN_STEPS + 1)
    tau = index / jnp.float32(TRAIN_STEPS)
  elif density == "logit_normal":
    tau = jax.nn.sigmoid(jax.random.normal(rng, (batch,)))
  else:
    raise errors.ConfigError(
        f"Time density {density!r}; have: uniform, logit_normal."
    )
  return _shift(tau, shift)


_shift = shift  # `shift` is an argument's name below and above.


def weight(tau: types.Array, *, shift: float = 1.0) -> types.Array:
  """Weight of the loss at tau, largest in the middle, mean 1, 0 at tau 1.

  Source: DiffSynth-Studio, whose table of TRAIN_STEPS weights this function
  passes through: exp(-2 (tau - 1/2)^2), less its least value.
  """
  least, mean = _weight_constants(shift)
  return (jnp.exp(-2 * (tau - 0.5) ** 2) - least) / mean


@functools.cache
def _weight_constants(shift):
  tau = _shift(np.arange(1, TRAIN_STEPS + 1) / TRAIN_STEPS, shift)
  bell = np.exp(-2 * (tau - 0.5) ** 2)
  return float(bell.min()), float((bell - bell.min()).mean())


def squared_cosine(steps: int) -> np.ndarray:
  """Cumulative alphas f32[steps] of the schedule of arXiv 2102.09672."""
  edges = np.arange(steps + 1) / steps
  level = np.cos((edges + 0.008) / 1.008 * np.pi / 2) ** 2
  betas = np.minimum(1 - level[1:] / level[:-1], 0.999)
  return np.cumprod(1 - betas).astype(np.float32)


def corrupt_ddpm(
    alphas: np.ndarray, data: types.Array, noise: types.Array,
    step: types.Array,
) -> types.Array:
  """Data [b, ...] and noise of its shape, mixed at step i32[b]."""
  alpha = _broadcast(jnp.asarray(alphas)[step], data)
  return jnp.sqrt(alpha) * data + jnp.sqrt(1 - alpha) * noise


def _broadcast(values, like):
  """[b] -> [b, 1, ...], of the rank and dtype of `like`."""
  values = jnp.asarray(values, like.dtype)
  return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))
