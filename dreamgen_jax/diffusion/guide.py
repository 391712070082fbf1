"""Classifier-free guidance (arXiv 2207.12598) around a network's prediction."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dreamgen_jax import errors


def classifier_free(
    predict: Callable[..., Any], scale: float | Callable[[Any], Any], *,
    base: str = "uncond",
) -> Callable[..., Any]:
  """Runs both branches as one batch of twice the size and mixes them.

  Args:
    predict: (x [b, ...], t, *inputs) -> [b, ...]; t is one number for all.
    scale: g, or t -> g. The branch without the condition is not run where it
      cancels at every t.
    base: "uncond" gives uncond + g (cond - uncond), as most models use it;
      "cond" gives cond + g (cond - uncond), as Cosmos does.

  Returns:
    (x, t, cond_inputs, uncond_inputs) -> [b, ...], where both inputs are
    tuples of trees of arrays [b, ...] that follow x and t.

  Raises:
    ConfigError: an unknown base.
  """
  if base not in ("uncond", "cond"):
    raise errors.ConfigError(f"Guidance base {base!r}; have: uncond, cond.")
  offset = 1.0 if base == "cond" else 0.0

  def guided(x, t, cond_inputs, uncond_inputs):
    total = offset + (scale(t) if callable(scale) else scale)
    if not callable(scale) and total == 1.0:
      return predict(x, t, *cond_inputs)
    def both(a, b):
      return jnp.concatenate([a, b])
    inputs = jax.tree.map(both, cond_inputs, uncond_inputs)
    cond, uncond = jnp.split(predict(both(x, x), t, *inputs), 2)
    return uncond + total * (cond - uncond)

  return guided
