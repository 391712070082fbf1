"""Tests of the programs that make datasets."""

import subprocess
import sys

import numpy as np
import pytest

from dreamgen_jax import errors, types
from dreamgen_jax.data import lerobot_export, rlds
from dreamgen_jax.embodiments import tabletop_panda
from tfds_builders import importing
from tfds_builders.lerobot import build as lerobot_build
from tfds_builders.tabletop import build, demonstrations
from tfds_builders.tabletop import tabletop_dataset_builder as builder

PANDA = tabletop_panda.EMBODIMENT


def _episode(robot, verb, scene, seed, length=17, image_size=64):
  """What the simulator would give, without it."""
  rng = np.random.default_rng(seed)
  return types.Episode(
      id="?",
      video={"front": np.full((length, image_size, image_size, 3),
                              40 * seed, np.uint8)},
      instruction=f"{verb} the block",
      embodiment=f"tabletop_{robot}",
      clock=PANDA.clock,
      origin=types.Origin("sim", dataset="tabletop", seed=seed),
      state=rng.normal(size=(length, PANDA.state_dim)).astype(np.float32),
      action=rng.normal(size=(length, PANDA.action_dim)).astype(np.float32),
      success=seed != 2,
      facts={"verb": verb, "scene": scene},
  )


@pytest.fixture
def no_simulator(monkeypatch):
  def make(name, spec, **kw):
    episode = _episode(**spec, **kw)
    return rlds.types.Episode(**{**vars(episode), "id": name}) if (
        episode.success) else None

  monkeypatch.setattr(demonstrations, "make", make)
  monkeypatch.setattr(demonstrations, "choices",
                      lambda: (["lift", "push"], ["wood", "slate"]))


def test_plan_takes_turns_and_is_deterministic():
  plan = demonstrations.plan("panda", ["a", "b"], ["x", "y", "z"], 12, 100)
  assert list(plan)[:3] == [
      "panda-a-x-0000100", "panda-b-y-0000101", "panda-a-y-0000102"]
  pairs = {(spec["verb"], spec["scene"]) for spec in plan.values()}
  assert len(pairs) == 6
  with pytest.raises(errors.ConfigError, match="at least one verb"):
    demonstrations.plan("panda", [], ["x"], 1)


def test_tabletop(tmp_path, no_simulator, capsys):
  data = build.build(tmp_path / "d", episodes=5, image_size=16,
                     episodes_per_shard=2)
  assert "4 of 5 demonstrations succeeded" in capsys.readouterr().out
  assert len(data) == 4 and data.embodiment == PANDA
  assert data.episode(1).video["front"].shape == (17, 16, 16, 3)
  assert {data.episode(i).facts["verb"] for i in range(4)} == {"lift", "push"}


def test_stock_builder_writes_the_same_records(tmp_path, no_simulator):
  stock = builder.Builder(
      config=builder.Config(name="few", episodes=4, image_size=16),
      data_dir=tmp_path / "tfds", file_format="array_record")
  stock.download_and_prepare()
  assert "tensorflow" not in sys.modules
  ours = build.build(tmp_path / "d", episodes=4, image_size=16)
  found = rlds.Dataset(stock.data_path)
  assert sorted(found.ids) == sorted(ours.ids)
  assert found.embodiment == ours.embodiment and found.clock == ours.clock
  for name in ours.ids:
    a = ours.episode(ours.position(name))
    b = found.episode(found.position(name))
    np.testing.assert_array_equal(a.video["front"], b.video["front"])
    np.testing.assert_array_equal(a.action, b.action)
    assert a.origin == b.origin and a.facts == b.facts


def test_builder_is_registered_by_import():
  code = """
import sys
import tensorflow_datasets as tfds
from tfds_builders.tabletop import tabletop_dataset_builder
assert tfds.builder_cls("tabletop") is tabletop_dataset_builder.Builder
assert "panda" in tabletop_dataset_builder.Builder.builder_configs
assert not {"tensorflow", "mujoco"} & set(sys.modules)
"""
  subprocess.run([sys.executable, "-c", code], check=True)


def test_lerobot(tmp_path, capsys):
  episodes = [rlds.types.Episode(**{
      **vars(_episode("panda", "lift", "wood", i, 6, 16)), "id": f"e{i}"})
              for i in range(3)]
  lerobot_export.write(tmp_path / "robot", episodes, PANDA)
  (tmp_path / "robot/meta/episodes_stats.jsonl").unlink()
  (tmp_path / "robot/data/chunk-000/episode_000001.parquet").unlink()

  def run():
    return lerobot_build.build(
        tmp_path / "robot", "tabletop_panda",
        importing.Settings(tmp_path / "d", episodes_per_shard=1))

  data = run()
  assert "odd: info.json promises 3 episodes" in capsys.readouterr().out
  assert data.ids == ["e0", "e2"]
  np.testing.assert_array_equal(data.episode(1).action, episodes[2].action)
  assert run().digest == data.digest
  with pytest.raises(errors.ConfigError, match="Did you mean"):
    lerobot_build.build(tmp_path / "robot", "tabletop_pandas",
                        importing.Settings(tmp_path / "e"))


@pytest.mark.parametrize("program, arguments, words", [
    (lerobot_build,
     ["--source=nowhere", "--embodiment=gr1", "--output=d"],
     "error: There is no LeRobot folder nowhere."),
    (lerobot_build,
     ["--source=nowhere", "--embodiment=gr1", "--output=d", "--cameras=a"],
     "error: --cameras takes camera=video_key pairs, not 'a'."),
    (lerobot_build, ["--source=a"], "error: No embodiment; give --embodiment: "
     "a module of dreamgen_jax/embodiments, e.g. gr1."),
    (build, ["--output=d", "--verb=lift"],
     "error: Unknown option --verb. Did you mean 'verbs'?"),
    (build, ["--output=d", "more"],
     "error: Unexpected argument 'more'; options begin with two dashes."),
    (build, ["--output=d", "--episodes=0"],
     "error: flag --episodes=0: 0 is not a positive integer."),
])
def test_mistakes_are_one_sentence(capsys, program, arguments, words):
  assert program.main(["build", *arguments]) == 2
  assert capsys.readouterr().err.strip() == words


def test_help_and_flags(tmp_path, no_simulator, capsys):
  assert build.main(["build", "--help"]) == 0
  assert "--episodes_per_shard" in capsys.readouterr().out
  assert build.main(["build", f"--output={tmp_path / 'd'}", "--episodes=2",
                     "--verbs=a,b", "--image_size=16"]) == 0
  assert "2 of 2" in capsys.readouterr().out
