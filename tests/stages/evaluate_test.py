"""Evaluation in a simulator whose tasks are of suites."""

import types

import gymnasium
import ml_collections
import numpy as np

from dreamgen_jax import registry
from dreamgen_jax.stages import artefact, evaluate


class Dark(gymnasium.Env):
  def __init__(self, task, horizon):
    del task, horizon

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    return {"image_front": np.zeros((16, 16, 3), np.uint8),
            "state": np.zeros(2, np.float32), "language": "wait"}, {}

  def step(self, action):
    return self.reset()[0], 0.0, False, False, {"success": True}


def test_a_task_of_a_suite_has_its_own_files(tmp_path, monkeypatch):
  monkeypatch.setattr(registry, "find", lambda *_: types.SimpleNamespace(
      make=Dark, hold=lambda observation, keys: np.zeros((2, 2, 2))))
  evaluate.run(ml_collections.ConfigDict(dict(
      sim="dark", verbs=("suite/0", "suite/1"), novel=(), horizon=2,
      execute_steps=2, first_seed=0, trials=2, batch_size=2, videos=1,
      video_hz=5.0)), {}, tmp_path)
  assert sorted(path.name for path in tmp_path.glob("noop-suite/*")) == [
      "0-0.mp4", "1-0.mp4"]
  rows = artefact.read_json(tmp_path / "trials.json")["trials"]
  assert [(row["verb"], row["seed"]) for row in rows] == [
      ("suite/0", 0), ("suite/0", 1), ("suite/1", 0), ("suite/1", 1)]
