"""The moving average of parameters: how much of the past is kept."""

import jax
import jax.numpy as jnp

POWER = 0.75
MAXIMUM = 0.9999


def decay(step: jax.Array | int) -> jax.Array:
  """Share of the old average kept at optimizer step `step` (1 is the first).

  1 - step ** -0.75, at most 0.9999, and 0 at the first step, so that the
  average begins as the parameters themselves. Source: EMAModel of
  real-stanford/diffusion_policy with power 0.75 and inv_gamma 1.

  Args:
    step: number of optimizer steps done, including this one; any shape.

  Returns:
    f32, the shape of `step`, in [0, 0.9999].
  """
  done = jnp.maximum(jnp.asarray(step, jnp.float32), 1.0)
  return jnp.clip(1.0 - done**-POWER, 0.0, MAXIMUM)
