"""Tests of policies as stages find them."""

import dataclasses

import numpy as np
import pytest

from dreamgen_jax import types
from dreamgen_jax.data import normalize
from dreamgen_jax.embodiments import tabletop_panda
from dreamgen_jax.stages import policies

ARM = dataclasses.replace(
    tabletop_panda.EMBODIMENT, name="nobody_registered_me", id=30)


@pytest.mark.parametrize("said, robot", [
    (dataclasses.asdict(ARM), ARM),
    ("tabletop_panda", tabletop_panda.EMBODIMENT),  # of older checkpoints
])
def test_a_checkpoint_knows_its_robot(monkeypatch, tmp_path, said, robot):
  rows = normalize.Accumulator(robot.action_dim)
  rows.add(np.random.default_rng(0).random((9, robot.action_dim)))
  action = normalize.Normalizer.create(robot.action, rows.result())
  facts = {"action": action.to_json(), "state": None, "text": {},
           "cameras": ["front"], "embodiment": said, "model": {}}
  monkeypatch.setattr(policies.checkpoint, "load", lambda path: ({}, facts))
  monkeypatch.setattr(policies.language, "load", lambda text: None)
  monkeypatch.setattr(policies, "build", lambda *given: given[1])
  found = policies.load(tmp_path)
  assert found.robot == found.model == robot and found.embodiment == robot.id
  assert isinstance(found.robot, types.Embodiment)
