"""LAPA's way: a policy of tokens says latent codes, then a robot's actions."""

import dataclasses

import jax
import numpy as np
import pytest

from configs import common
from dreamgen_jax import errors, types
from dreamgen_jax.data import normalize, rlds
from dreamgen_jax.embodiments import latent, tabletop_panda
from dreamgen_jax.encoders import tokenizer
from dreamgen_jax.stages import policies, train_policy
from tests import drawn

ROBOT = tabletop_panda.EMBODIMENT
LATENT = dataclasses.replace(
    latent.EMBODIMENT, clock=ROBOT.clock, action=(dataclasses.replace(
        latent.EMBODIMENT.action[0], dims=4, normalize="identity"),))
SIZES = dict(
    vision=dict(width=16, depth=1, heads=2, mlp_width=16, patch=16),
    language=dict(width=16, depth=1, ffn=16, heads=2, head_dim=8),
    text_length=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  """Folders of latent codes, of true actions, and a tokenizer."""
  home, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
  for robot in (LATENT, ROBOT):
    codes = (2 * rng.integers(0, 8, (6, robot.action_dim)) + 1) / 8 - 1
    rlds.write(home / robot.name / "data", robot.name, [types.Episode(
        id="one", video={"front": rng.integers(0, 256, (6, 64, 64, 3),
                                               np.uint8)},
        instruction="push", embodiment=robot.name, clock=robot.clock,
        origin=types.Origin("dream"), action=codes.astype(np.float32))], robot)
  tokenizer.train(["push"], 20).save(str(home / "tokenizer.json"))
  return home


def _run(data, folder, rate, kw, **inputs):
  config = common.section(
      cameras=("front",), text=dict(tokenizer=str(data / "tokenizer.json")),
      model=dict(name="token_vla", preset="nano", kw=SIZES | kw),
      train=common.train(
          1, 2, common.optim(rate, 0, weight_decay=0.0, schedule="constant")))
  train_policy.run(config, inputs, folder)
  return policies.load(folder)


def test_codes_first_then_actions(data, tmp_path, monkeypatch):
  with monkeypatch.context() as patch:  # nothing is compiled
    patch.setattr(
        policies, "start", lambda spec, model, *_: drawn.params(model))
    first = _run(data, tmp_path / "codes", 1e-2, dict(horizon=1, bins=8),
                 latent=data / LATENT.name)
  assert (first.model.config.action_dim, first.model.config.horizon) == (4, 1)
  before = drawn.params(first.model)
  assert not np.allclose(*(tree["words"]["token"]["embedding"][-8:]
                           for tree in (before, first.params)))
  # Without a step worth the name it says the robot's actions by what it knows.
  second = _run(data, tmp_path / "actions", 0.0, {}, real=data / ROBOT.name,
                start=tmp_path / "codes")
  assert (second.model.config.action_dim, second.model.config.horizon) == (5, 4)
  jax.tree.map(np.testing.assert_array_equal, first.params, second.params)
  with pytest.raises(errors.CheckpointError, match="of another model"):
    _run(data, tmp_path / "wrong", 0.0, dict(vocabulary=700),
         real=data / ROBOT.name, start=tmp_path / "codes")


def test_units_stay_where_the_keys_do(data, tmp_path, monkeypatch):
  monkeypatch.setattr(
      policies, "start", lambda spec, model, *_: drawn.params(model))
  kw = dict(horizon=1)
  first = _run(data, tmp_path / "one", 0.0, kw, real=data / ROBOT.name)
  wider = normalize.compute(rlds.Dataset(data / ROBOT.name / "data"))["action"]
  monkeypatch.setattr(normalize, "compute", lambda dataset: {
      "action": dataclasses.replace(wider, max=wider.max + 1)})
  for inputs, moved in ((dict(start=tmp_path / "one"), 0), ({}, 1)):
    second = _run(data, tmp_path / f"two_{moved}", 0.0, kw,
                  real=data / ROBOT.name, **inputs)
    np.testing.assert_allclose(
        second.action.statistics.max - first.action.statistics.max, moved)
