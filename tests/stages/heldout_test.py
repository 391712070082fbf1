"""Held-out errors: the same noise each time, and proof of an effect."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import errors
from dreamgen_jax.stages import heldout


class _Objective:
  """Its error is the parameter, times the level, plus the noise it drew."""

  def error_at(self, params, rng, batch, tau):
    noise = jax.random.normal(rng, batch["latent"].shape)
    return params["w"] * tau + jnp.mean(noise, axis=1)


def _watch(levels=(0.3, 0.9)):
  held = heldout.Heldout(np.zeros((2, 1, 1, 1, 3), np.uint8), ["a", "b"],
                         {"latent": np.zeros((2, 4), np.float32)}, 5.0)
  return heldout.Watch(_Objective(), {"w": jnp.float32(1.0)}, held, levels)


def test_errors_fall_only_if_the_model_learns():
  watch = _watch()
  worse, better = watch({"w": jnp.float32(2.0)}, 5), watch(
      {"w": jnp.float32(0.5)}, 9)
  assert set(worse) == {"heldout_error_0.3", "heldout_error_0.9"}
  assert worse == watch({"w": jnp.float32(2.0)}, 7)
  apart = worse["heldout_error_0.9"] - better["heldout_error_0.9"]
  np.testing.assert_allclose(apart, 1.5 * 0.9, rtol=1e-5)


def test_training_that_reaches_nothing_is_an_error():
  watch = _watch()
  watch({"w": jnp.float32(1.0)}, 1)  # the warm-up's first step
  with pytest.raises(errors.UserError, match="After 20 steps.*lora.match"):
    watch({"w": jnp.float32(1.0)}, 20)


def test_experts_are_measured_in_their_own_range():
  one = types.SimpleNamespace(experts=("transformer",))
  two = types.SimpleNamespace(
      experts=("transformer", "transformer_2"), boundary=0.8)
  assert heldout.levels(one, "transformer") == heldout.LEVELS
  assert heldout.levels(two, "transformer") == (0.9,)
  assert heldout.levels(two, "transformer_2") == (0.1, 0.3, 0.5, 0.7)
