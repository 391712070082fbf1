"""Mistakes of a labeler's training show before anything is trained."""

import dataclasses

import ml_collections
import numpy as np
import pytest

from dreamgen_jax import errors, registry, types
from dreamgen_jax.data import rlds
from dreamgen_jax.stages import train_labeler


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
  """Two recordings of a robot whose gripper rests."""
  robot = registry.find("embodiments", "tabletop_panda").EMBODIMENT
  rng = np.random.default_rng(0)
  made = []
  for i in range(2):
    action = rng.normal(size=(4, 5)).astype(np.float32)
    action[:, 3] = 0.5
    made.append(types.Episode(
        id=f"e{i}", video={"front": np.zeros((4, 8, 8, 3), np.uint8)},
        instruction="go", embodiment=robot.name, clock=robot.clock,
        origin=types.Origin("sim"), action=action))
  folder = tmp_path_factory.mktemp("recorded")
  rlds.write(folder / "data", "recorded", made, robot)
  return folder


def _run(recorded, **changes):
  config = ml_collections.ConfigDict(dict(
      cameras=("front",), model=dict(name="idm", preset="nano", kw={}),
      time_base=dict(gap_seconds=0.2, horizon=1), leave_out=("e1",)) | changes)
  train_labeler.run(config, {"demonstrations": recorded}, recorded / "out")


@pytest.mark.parametrize(("changes", "match"), [
    (dict(leave_out=()), "give it an input heldout, or name some in"),
    (dict(leave_out=("e7",)), "has no episode 'e7'. Did you mean"),
    (dict(leave_out=("e0", "e1")), "No episode of .* is left"),
    (dict(cameras=("wrist",)), "has no camera 'wrist', only front"),
    (dict(time_base=dict(gap_seconds=0.3, horizon=1)),
     "0.3 s is 1.5 frames at 5 Hz"),
    (dict(model=dict(name="idm", preset="nano", kw=dict(embodiments=0))),
     "has the id 0, but the labeler has weights for 0 embodiments"),
    (dict(model=dict(name="vpt", preset="nano", kw={}), state=True),
     "'vpt' decodes no states"),
    ({}, r"Cannot normalise what never changes: eef_yaw\[0\] = 0.5"),
])
def test_one_sentence_and_nothing_lost(recorded, changes, match):
  with pytest.raises(errors.UserError, match=match):
    _run(recorded, **changes)
  assert not (recorded / "out").exists()
  assert len(rlds.Dataset(recorded / "data")) == 2


def test_statistics_are_of_what_is_learnt_from(recorded):
  from dreamgen_jax.data import normalize, subset

  whole = rlds.Dataset(recorded / "data")
  part = subset.subset(whole, ["e1"], without=True)
  assert part.digest != whole.digest
  found = normalize.compute(part)["action"]
  np.testing.assert_allclose(found.max, whole.episode(0).action.max(0))
  assert dataclasses.astuple(normalize.compute(whole)["action"])[-1] == 8
