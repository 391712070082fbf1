"""Which parameters are the best, and how far plans are from recordings."""

import dataclasses
import types

import numpy as np
import pytest

from configs import common
from dreamgen_jax.stages import trials, validation


@dataclasses.dataclass(frozen=True)
class Agent:
  """Plans what its parameters say; the first of four steps is past."""

  params: object = None

  def plan(self, keys, batch):
    assert not {"action", "mask", "weight"} & batch.keys()
    return np.full((len(keys), 3, 2), self.params["x"])


def sample(value):
  action = np.full((4, 2), value, np.float32)
  action[0] = 99  # of the past
  mask = np.ones((4, 2), bool)
  mask[:, 1] = False
  return {"action": action, "mask": mask, "state": np.zeros(3, np.float32)}


def params(x):
  return {"x": np.full(1, x, np.float32)}


def test_open_loop_error_is_of_what_is_known_from_now_on():
  batch = {name: np.stack([leaf, leaf]) for name, leaf in sample(2.0).items()}
  batch["action"][..., 1] = np.nan
  assert validation.open_loop(Agent(params(5.0)), batch) == pytest.approx(3.0)


def test_the_best_succeed_most_and_then_err_least(tmp_path, monkeypatch):
  outcome = {1.0: 0.5, 2.0: 0.5, 3.0: 1.0, 4.0: 0.0}

  def run(config, verb, agent):
    rate = outcome[float(agent.params["x"][0])]
    return [types.SimpleNamespace(success=rate > 0.9, progress=rate)]

  monkeypatch.setattr(trials, "attempt", run)
  settings = common.section(sim="tabletop", verbs=("push",))

  def make():
    return validation.Validation(settings, Agent(), [sample(0.0)], tmp_path)

  watch = make()
  # Of equal progress the error decides.
  assert watch(params(2.0), 1)["heldout_error"] == pytest.approx(2.0)
  watch(params(1.0), 2)
  assert watch.best()[1] == 2
  assert watch(params(3.0), 3)["heldout_success"] == 1.0
  watch = make()  # as after a restart
  watch(params(4.0), 4)
  best, step = watch.best()
  assert (float(best["x"][0]), step) == (3.0, 3)


def test_without_a_simulator_the_error_decides(tmp_path):
  watch = validation.Validation(
      common.section(), Agent(), [sample(0.0)], tmp_path)
  for step, x in enumerate((3.0, 1.0, 2.0)):
    assert watch(params(x), step).keys() == {"heldout_error"}
  assert watch.best()[1] == 1


def test_samples_are_spread():
  assert validation.spread(list(range(10)), 4) == [0, 3, 6, 9]
  assert validation.spread([7], 4) == [7]
