"""Tests of importers: what they read, and what they say of bad episodes."""

import json
import sys

import numpy as np
import pyarrow
import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds

from dreamgen_jax import errors, types
from dreamgen_jax.data import lerobot_export, rlds, video
from tests import recorded
from tfds_builders import importing
from tfds_builders.lerobot import build as lerobot_build
from tfds_builders.lerobot import export as lerobot_program
from tfds_builders.rlds import build as rlds_build
from tfds_builders.robomimic import build as robomimic_build
from tfds_builders.videos import build as videos_build

ROBOT = types.Embodiment(
    name="so100", id=2, state=(types.Key("joints", 3),),
    action=(types.Key("joints", 3),), cameras={"front": "front", "wrist":
                                               "wrist"},
    clock=types.Clock(10.0, 10.0))
COUNT = 4


def _episode(i, frames=6, action=True):
  rng = np.random.default_rng(i)
  values = rng.normal(size=(frames, 3)).astype(np.float32)
  return types.Episode(
      id=f"e{i}", video={camera: rng.integers(
          0, 255, (frames, 16, 16, 3), np.uint8) for camera in ROBOT.cameras},
      instruction=f"touch {i}", embodiment="so100", clock=ROBOT.clock,
      origin=types.Origin("robot"), state=values if action else None,
      action=-values if action else None)


@pytest.fixture
def robot(monkeypatch):
  monkeypatch.setattr("dreamgen_jax.registry.find", lambda kind, name: (
      type("module", (), {"EMBODIMENT": ROBOT})))


@pytest.fixture
def folder(tmp_path, robot):
  """A LeRobot folder of four good episodes."""
  path = tmp_path / "robot"
  lerobot_export.write(path, map(_episode, range(COUNT)), ROBOT)
  return path


def _table(path, change):
  file = path / "data/chunk-000/episode_000001.parquet"
  table = pq.read_table(file).to_pydict()
  change(table)
  pq.write_table(pyarrow.table(table), file)


def _not_finite(table):
  table["action"][2][1] = float("nan")


def _narrower(table):
  table["action"] = [row[:2] for row in table["action"]]


def _without(table):
  del table["action"]


def _same_as_before(path):
  for file in path.rglob("*_000001.*"):
    earlier = file.with_name(file.name.replace("1.", "0."))
    file.write_bytes(earlier.read_bytes())
  file = path / "meta/episodes.jsonl"
  file.write_text(file.read_text().replace("touch 1", "touch 0"))


def _no_instruction(path):
  for file in (path / "meta").glob("*s.jsonl"):
    file.write_text(file.read_text().replace("touch 1", ""))


def _film(path, frames, cut=None, cameras=("front", "wrist")):
  for camera in cameras:
    (path / f"videos/chunk-000/observation.images.{camera}/episode_000001.mp4"
     ).write_bytes(video.encode(frames, 10.0)[:cut])


BAD = {
    "parquet without a column": ("features", lambda path: _table(
        path, _without)),
    "features changed between shards": ("features", lambda path: _table(
        path, _narrower)),
    "actions that are not finite": ("nan", lambda path: _table(
        path, _not_finite)),
    "fewer frames than rows": ("length", lambda path: _film(
        path, _episode(1).video["front"][:4])),
    "cameras of different length": ("length", lambda path: _film(
        path, _episode(1).video["front"][:4], cameras=["wrist"])),
    "truncated file": ("truncated", lambda path: _film(
        path, _episode(1).video["front"], cut=900)),
    "no file": ("missing", lambda path: next(path.glob(
        "videos/chunk-000/*/episode_000001.mp4")).unlink()),
    "empty instruction": ("instruction", _no_instruction),
    "the same again": ("duplicate", _same_as_before),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_episodes_are_told_counted_and_left_out(folder, tmp_path, capsys,
                                                    case):
  kind, spoil = BAD[case]
  spoil(folder)
  settings = importing.Settings(str(tmp_path / "d"))
  data = lerobot_build.build(str(folder), "so100", settings)
  assert data.ids == ["e0", "e2", "e3"]
  assert data.metadata["problems"] == {kind: 1}
  said = capsys.readouterr().out
  assert f"1 x {kind}" in said and "e1: " in said and "1 skipped" in said
  (line,) = (tmp_path / "d" / importing.PROBLEMS).read_text().splitlines()
  assert json.loads(line)["episode"] == "e1"
  again = lerobot_build.build(str(folder), "so100", settings)
  assert again.digest == data.digest
  assert "1 skipped" in capsys.readouterr().out
  with pytest.raises(errors.DataError, match="e1"):
    lerobot_build.build(str(folder), "so100", importing.Settings(
        str(tmp_path / "e"), on_problem="fatal"))


def test_a_video_that_ends_before_its_header_says(folder, tmp_path):
  frames = _episode(1, 40).video["front"]
  lerobot_export.write(tmp_path / "long", [_episode(0, 40), _episode(1, 40)],
                       ROBOT)
  data = bytearray(video.encode(frames, 10.0))
  at = data.rfind(b"mdat", 0, len(data) // 2) + 4
  data[at + len(frames) * 400:at + len(frames) * 420] = bytes(
      len(frames) * 20)  # a stretch of zeros inside the pictures
  (tmp_path / "long/videos/chunk-000/observation.images.front"
   "/episode_000001.mp4").write_bytes(bytes(data))
  found = lerobot_build.build(str(tmp_path / "long"), "so100",
                              importing.Settings(str(tmp_path / "d")))
  assert found.ids == ["e0"]
  assert found.metadata["problems"] == {"truncated": 1}


def test_kinds_can_be_kept(folder, tmp_path):
  BAD["fewer frames than rows"][1](folder)
  _no_instruction(folder)
  data = lerobot_build.build(str(folder), "so100", importing.Settings(
      str(tmp_path / "d"), keep=("length", "instruction"), codec="jpeg"))
  assert data.ids == ["e0", "e1", "e2", "e3"]
  assert data.index["frames"].tolist() == [6, 4, 6, 6]
  assert data.metadata["problems"] == {"length": 1, "instruction": 1}
  assert lerobot_program.main(["export", f"--dataset={tmp_path / 'd'}",
                               f"--output={tmp_path / 'out'}"]) == 0
  assert json.loads((tmp_path / "out/meta/info.json").read_text())[
      "total_episodes"] == 4


def test_plain_videos(tmp_path, robot, capsys):
  source = rlds.write(tmp_path / "s", "s", [
      _episode(i, action=False) for i in range(3)], ROBOT, cameras=["front"])
  videos_build.export(source, tmp_path / "plain")
  (tmp_path / "plain/metas/e1.txt").unlink()
  (tmp_path / "plain/videos/e9.mp4").write_bytes(b"junk")
  data = videos_build.build(str(tmp_path / "plain"), "so100",
                            importing.Settings(str(tmp_path / "d")), "dream")
  assert data.ids == ["e0", "e2"] and data.cameras == ["front"]
  assert data.metadata["problems"] == {"truncated": 1, "instruction": 1}
  found = data.episode(1)
  assert found.instruction == "touch 2" and found.origin.kind == "dream"
  assert found.action is None and found.clock == ROBOT.clock
  wrist = tmp_path / "two/videos/wrist"
  wrist.mkdir(parents=True)
  (tmp_path / "plain/videos").rename(tmp_path / "two/videos/front")
  (wrist / "e2.mp4").write_bytes(
      (tmp_path / "two/videos/front/e0.mp4").read_bytes())
  data = videos_build.build(
      str(tmp_path / "two"), "so100", importing.Settings(
          str(tmp_path / "t"), keep=("instruction",)))
  assert data.ids == ["e2"] and data.cameras == ["front", "wrist"]
  with pytest.raises(errors.DataError, match="holds no mp4"):
    videos_build.build(str(tmp_path), "so100", importing.Settings("x"))


def _demonstrations(path, count=3):
  h5py = pytest.importorskip("h5py")
  rng = np.random.default_rng(0)
  widths = {"base_to_eef_pos": 3, "base_to_eef_quat": 4, "gripper_qpos": 2,
            "base_pos": 3, "base_quat": 4}
  with h5py.File(path, "w") as file:
    group = file.create_group("data")
    group.attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 20}})
    for i in range(count):
      demo = group.create_group(f"demo_{i + 8}")
      demo.attrs["ep_meta"] = json.dumps({"lang": f"open door {i}"})
      actions = rng.uniform(-1, 1, (5, 12))
      actions[:, [6, 11]] = np.sign(actions[:, [6, 11]])
      demo["actions"] = actions
      for name, width in widths.items():
        demo[f"obs/robot0_{name}"] = rng.normal(size=(5, width))
      for name in ("agentview_left", "agentview_right", "eye_in_hand"):
        demo[f"obs/robot0_{name}_image"] = rng.integers(
            0, 255, (5, 16, 16, 3), np.uint8)
    del group["demo_9/obs/robot0_base_pos"]
    actions = group["demo_10/actions"]
    actions[2, 3] = np.nan
    return group["demo_8/actions"][()]


def test_robomimic(tmp_path):
  actions = _demonstrations(tmp_path / "demo.hdf5")
  data = robomimic_build.build(
      str(tmp_path / "demo.hdf5"), "robocasa",
      importing.Settings(str(tmp_path / "d")))
  assert data.ids == ["demo-demo_8"]
  assert data.metadata["problems"] == {"features": 1, "nan": 1}
  found = data.episode(0)
  assert found.instruction == "open door 0" and found.state.shape == (5, 16)
  np.testing.assert_allclose(found.action[:, :6], actions[:, :6], atol=1e-6)
  np.testing.assert_array_equal(found.action[:, 6], actions[:, 6] > 0)
  np.testing.assert_array_equal(found.action[:, 11], actions[:, 11] > 0)
  assert set(found.video) == {"left_view", "right_view", "wrist_view"}
  with pytest.raises(errors.ConfigError, match="Did you mean 'robocasa'"):
    robomimic_build.build("x", "robocas", importing.Settings("y"))


def test_hdf5_without_its_library(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "h5py", None)
  with pytest.raises(errors.ConfigError, match="needs h5py"):
    robomimic_build.build("x", "robocasa", importing.Settings("y"))


def test_tfrecord_to_array_record(tmp_path, capsys):
  features = tfds.features.FeaturesDict({
      "steps": tfds.features.Dataset({
          "image": tfds.features.Image(shape=(16, 16, 3),
                                       encoding_format="jpeg"),
          "action": tfds.features.Tensor(shape=(2,), dtype=np.float32)})})
  made = [{"steps": {"image": recorded.jpegs(3, seed=i),
                     "action": np.full((3, 2), i, np.float32)}}
          for i in range(5)]
  source = recorded.write(tmp_path / "lab" / "1.0.0", features, made)
  report = rlds_build.build(str(tmp_path / "lab"), str(tmp_path / "copy"))
  assert not report.problems
  data = tfds.builder_from_directory(tmp_path / "copy").as_data_source()
  assert len(data["train"]) == 5
  assert sorted(float(next(iter(each["steps"]))["action"][0])
                for each in data["train"]) == [0, 1, 2, 3, 4]
  file = sorted(source.glob("*.tfrecord*"))[0]
  file.write_bytes(file.read_bytes()[:-30])
  report = rlds_build.build(str(tmp_path / "lab"), str(tmp_path / "cut"))
  assert report.counts() == {"truncated": 1}
  assert "4 records of 5 promised" in capsys.readouterr().out
  cut = tfds.builder_from_directory(tmp_path / "cut").as_data_source()
  assert len(cut["train"]) == 4
  with pytest.raises(errors.DataError, match="ends within a record"):
    rlds_build.build(str(tmp_path / "lab"), str(tmp_path / "f"), "fatal")
  with pytest.raises(errors.DataError, match="is a dataset already"):
    rlds_build.build(str(tmp_path / "lab"), str(tmp_path / "cut"))


def test_programs(tmp_path, folder, capsys):
  assert lerobot_build.main([
      "build", f"--source={folder}", "--embodiment=so100", "--keep=colour",
      f"--output={tmp_path / 'd'}"]) == 2
  assert "Unknown kind of problem 'colour'" in capsys.readouterr().err
  for program in (videos_build, robomimic_build, rlds_build):
    assert program.main(["build", "--help"]) == 0
    assert "--on_problem" in capsys.readouterr().out


