"""What a robot or a dataset can get wrong is told in one sentence."""

import dataclasses

import jax
import numpy as np
import pytest

from dreamgen_jax import agent, errors, registry
from dreamgen_jax.data import normalize
from dreamgen_jax.stages import models, policies
from tests import drawn

ROBOT = registry.find("embodiments", "tabletop_panda").EMBODIMENT


@dataclasses.dataclass(frozen=True)
class Sizes:
  cameras: tuple[str, ...] = ("front",)


@dataclasses.dataclass(frozen=True)
class Mirror:
  """Plans to stay at the state that it sees."""

  config: Sizes = Sizes()

  def read(self, language, instructions, state):
    return {}

  def act(self, params, rng, batch):
    return batch["state"]


@pytest.fixture(scope="module")
def mirror():
  sums = normalize.Accumulator(5)
  sums.add(np.random.default_rng(0).uniform(0, 1, (50, 5)))
  found = sums.result()
  return agent.Agent(
      Mirror(), {}, normalize.Normalizer.create(ROBOT.state, found),
      normalize.Normalizer.create(ROBOT.state, found), None, 0, ROBOT)


def observation(**changes):
  return {"image/front": np.zeros((2, 1, 8, 8, 3), np.uint8),
          "state": np.full((2, 1, 5), 0.5, np.float32),
          "state_mask": np.ones((2, 1), bool),
          "instruction": ["push", "pull"]} | changes


def state(value, width=5):
  found = np.full((2, 1, width), 0.5, np.float32)
  found[1, 0, 2] = value
  return found


def test_good_observations_pass(mirror):
  keys = np.zeros(2, np.uint32)
  np.testing.assert_allclose(mirror(observation(), keys), 0.5, atol=1e-5)
  hidden = observation(state=state(np.nan), state_mask=np.zeros((2, 1), bool))
  assert np.isfinite(mirror(hidden, keys)).all()


@pytest.mark.parametrize(("changes", "message"), [
    ({"state": state(0.5, 4)}, "width 4 do not fit"),
    ({"state": state(np.nan)}, "holds NaN"),
    ({"state": state(500.0)}, "Value 2 of the state is 500, .* another data"),
])
def test_states(mirror, changes, message):
  with pytest.raises(errors.DataError, match=message):
    mirror(observation(**changes), np.zeros(2, np.uint32))


def test_a_missing_camera(mirror):
  seen = observation()
  del seen["image/front"]
  with pytest.raises(errors.DataError, match="lacks the camera 'front'"):
    mirror(seen, np.zeros(2, np.uint32))


def test_an_unknown_embodiment():
  with pytest.raises(errors.ConfigError, match="Did you mean 'tabletop_panda'"):
    registry.find("embodiments", "tabletop_pand")
  model = models.build("policies", {"name": "groot_n1", "preset": "nano"})
  with pytest.raises(errors.ConfigError, match="has the embodiment id 99"):
    policies.check_embodiment(model, 99, "Episode 'x'")


@pytest.mark.parametrize("name", registry.names("policies"))
def test_chunks_of_another_length(name):
  model = models.build("policies", {"name": name, "preset": "nano"})
  batch = drawn.batch(model, 1)
  for leaf in ("action", "mask"):
    batch[leaf] = batch[leaf][:, 1:]
  wanted = f"made for {model.config.horizon} steps"
  with pytest.raises(errors.DataError, match=wanted):
    model.loss({}, jax.random.key(0), batch)
