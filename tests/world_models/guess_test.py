"""What a noisy clip is taken for, in every family, against its error."""

import jax
import numpy as np
import pytest

from dreamgen_jax.stages import models
from tests import drawn

FAMILIES = [("wan", "nano"), ("wan", "wan2_2_nano"), ("cosmos", "nano"),
            ("cogvideox", "nano"), ("hunyuan", "nano")]


@pytest.mark.parametrize("family, preset", FAMILIES)
def test_the_guess_is_as_far_off_as_the_velocity(family, preset):
  model = models.build("world_models", dict(name=family, preset=preset, kw={}))
  batch, tau = drawn.batch(model, 2), np.array([0.4, 0.8], np.float32)

  @jax.jit
  def run(params, tau):
    return tuple(look(params, jax.random.key(3), batch, tau)
                 for look in (model.guess, model.error_at))

  params = drawn.params(model, 0.1)
  guess, error = map(np.asarray, run(params, tau))
  assert guess.shape == batch["latent"].shape
  given = 1 if np.array_equal(guess[:, 0], batch["condition"][:, 0]) else 0
  assert given == ((family, preset) != ("wan", "nano")
                   and family != "cogvideox")
  missed = ((guess - batch["latent"])[:, given:] ** 2).mean((1, 2, 3, 4))
  # CogVideoX has 1000 levels to choose from.
  np.testing.assert_allclose(missed, tau**2 * error, rtol=1e-2)
  # Without noise there is nothing to guess; CogVideoX always has some.
  clean = np.asarray(run(params, np.zeros(2, np.float32))[0])
  assert np.sqrt(np.mean((clean - batch["latent"])[:, given:] ** 2)) < 0.05
