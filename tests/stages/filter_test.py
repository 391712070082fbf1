"""The filter marks and tells; it neither deletes nor changes."""

import dataclasses
import pathlib

import ml_collections
import numpy as np
import pytest

from dreamgen_jax import errors, registry, types
from dreamgen_jax.data import rlds, windows
from dreamgen_jax.stages import filter as filter_stage


@pytest.fixture
def trajectories(tmp_path):
  """Five labelled episodes, ever less certain; the last is rejected already."""
  robot = registry.find("embodiments", "tabletop_panda").EMBODIMENT
  rng = np.random.default_rng(0)
  made = []
  for i in range(5):
    action = rng.normal(size=(4, 5)).astype(np.float32)
    made.append(types.Episode(
        id=f"e{i}", video={"front": rng.integers(
            0, 256, (4, 8, 8, 3), np.uint8)},
        instruction="go", embodiment=robot.name, clock=robot.clock,
        origin=types.Origin("dream", kept=i < 4, reason="" if i < 4 else "bad",
                            scores={"seen": 0.5}),
        action=action, spread=np.full((4, 5), 0.1 * i, np.float32),
        disagreement=np.zeros((4, 5), np.float32)))
  rlds.write(tmp_path / "neural" / "data", "neural", made, robot)
  return tmp_path / "neural"


def _run(trajectories, **judges):
  folder = trajectories.parent / "kept"
  config = ml_collections.ConfigDict(dict(shards=2, judges=judges))
  result = filter_stage.run(config, {"trajectories": trajectories}, folder)
  return result, rlds.Dataset(folder / "data")


def test_it_marks_what_it_rejects(trajectories):
  result, made = _run(
      trajectories, sure=dict(name="certainty", keep=0.5), bounds=dict(
          name="limits"))
  assert made.index["kept"].tolist() == [True, True, False, False, False]
  assert (result["episodes"], result["kept"]) == (5, 2)
  assert result["rejected"] == {"sure": 2}
  assert result["judges"]["bounds"]["rejected"] == 0
  source = rlds.Dataset(trajectories / "data")
  for i, name in enumerate(source.ids):
    old, new = source.record(i), made.record(i)
    assert (old["episode_metadata"]["video"]["front"]
            == new["episode_metadata"]["video"]["front"])
    old, new = source.episode(i), made.episode(i)
    np.testing.assert_array_equal(new.action, old.action)
    np.testing.assert_array_equal(new.spread, old.spread)
    assert new.id == name and new.origin.scores.keys() == {
        "seen", "sure", "bounds"}
    assert bool(new.origin.reason) == (not new.origin.kept)
  assert made.episode(4).origin.reason == "bad"
  assert made.episode(3).origin.reason.startswith(
      "sure 0.7")  # and by how much
  shown = windows.Observations(made, cameras=("front",), horizon=2)
  assert set(shown.table[:, 0]) == {0, 1}
  again, _ = _run(trajectories, sure=dict(name="certainty", keep=0.5),
                  bounds=dict(name="limits"))
  assert again == result


def test_mistakes_cost_nothing(trajectories):
  with pytest.raises(errors.DataError, match="reject all 5 episodes.*sure"):
    _run(trajectories, sure=dict(name="certainty", at_least=1.1))
  with pytest.raises(errors.ConfigError, match="start in no simulator"):
    _run(trajectories, real=dict(name="forward"))
  assert not pathlib.Path(trajectories.parent / "kept").exists()


def test_older_datasets_lack_the_disagreement(trajectories, monkeypatch):
  from dreamgen_jax.data import record

  source = rlds.Dataset(trajectories / "data")
  old = source.record(0)
  del old["steps"]["action_disagreement"]
  del old["episode_metadata"]["has_disagreement"]
  assert record.from_record(old).disagreement is None
  new = record.with_origin(old, dataclasses.replace(types.Origin("dream")))
  assert record.from_record(new).disagreement is None
