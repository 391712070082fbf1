"""Tests of LeRobot folders, both ways."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pyarrow
import pyarrow.parquet as pq
import pytest

from dreamgen_jax import errors, types
from dreamgen_jax.data import (
    checks,
    lerobot,
    lerobot_export,
    lerobot_export_v3,
    video,
)
from dreamgen_jax.embodiments import gr1

GR1 = (pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"
       / "gr1_robot_sim_pick_n_place")
CLOCK = types.Clock(10.0, 10.0)


@pytest.fixture
def made(tmp_path, embodiment, make_episode):
  """(folder of three exported episodes, the episodes)."""
  episodes = [make_episode(seed, 6 + seed, clock=CLOCK) for seed in range(3)]
  lerobot_export.write(tmp_path / "robot", episodes, embodiment)
  return tmp_path / "robot", episodes


def _edit(path, change):
  value = json.loads(path.read_text())
  change(value)
  path.write_text(json.dumps(value))


def _foreign(path):
  """Removes what only our own exports have."""
  file = path / "meta" / "episodes.jsonl"
  lines = [json.loads(line) for line in file.read_text().splitlines()]
  for line in lines:
    del line[lerobot.EXTRA]
  file.write_text("\n".join(json.dumps(line) for line in lines))


def _retable(path, number, **columns):
  """Replaces (or with None drops) columns of one episode's table."""
  file = path / f"data/chunk-000/episode_{number:06d}.parquet"
  table = pq.read_table(file).to_pydict()
  for name, values in columns.items():
    table.pop(name, None)
    if values is not None:
      table[name] = values
  pq.write_table(pyarrow.table(table), file)


@pytest.mark.parametrize("version", lerobot_export.VERSIONS)
def test_export_and_import_are_inverses(tmp_path, embodiment, make_episode,
                                        version, monkeypatch):
  monkeypatch.setattr(lerobot_export_v3, "_PER_FILE", 2)
  path = tmp_path / "robot"
  episodes = [make_episode(seed, 6 + seed, clock=CLOCK) for seed in range(3)]
  lerobot_export.write(path, episodes, embodiment, version)
  folder = lerobot.Folder(path, embodiment)
  assert folder.findings == [] and not folder.report.problems
  assert folder.ids == [e.id for e in episodes] and folder.clock == CLOCK
  for episode in episodes:
    found = folder.episode(episode.id)
    for camera, frames in episode.video.items():
      assert np.abs(found.video[camera].astype(int) - frames).max() <= 6
    np.testing.assert_array_equal(found.state, episode.state)
    np.testing.assert_array_equal(found.action, episode.action)
    for name in ("instruction", "embodiment", "clock", "origin", "success",
                 "facts"):
      assert getattr(found, name) == getattr(episode, name), name


def test_export_follows_lerobot_v21(made):
  path, _ = made
  info = json.loads((path / "meta/info.json").read_text())
  assert info["codebase_version"] == "v2.1" and info["fps"] == 10
  assert (info["total_episodes"], info["total_frames"]) == (3, 21)
  for number in range(3):
    named = {"episode_chunk": 0, "episode_index": number}
    assert (path / info["data_path"].format(**named)).exists()
    assert (path / info["video_path"].format(
        video_key="observation.images.wrist", **named)).exists()
  table = pq.read_table(path / "data/chunk-000/episode_000001.parquet")
  assert set(table.column_names) == set(info["features"]) - {
      "observation.images.front", "observation.images.wrist"}
  assert table["index"].to_pylist() == list(range(6, 13))
  np.testing.assert_allclose(table["timestamp"], np.arange(7) / 10)
  stats = (path / "meta/episodes_stats.jsonl").read_text().splitlines()
  image = json.loads(stats[0])["stats"]["observation.images.wrist"]
  assert np.shape(image["mean"]) == (3, 1, 1) and image["count"] == [6]


def test_export_follows_lerobot_v3(tmp_path, embodiment, make_episode):
  episodes = [make_episode(seed, 6 + seed, clock=CLOCK) for seed in range(3)]
  path = tmp_path / "r"
  lerobot_export.write(path, episodes, embodiment, "v3.0")
  info = json.loads((path / "meta/info.json").read_text())
  assert info["codebase_version"] == "v3.0" and info["fps"] == 10
  place = {"chunk_index": 0, "file_index": 0}
  table = pq.read_table(path / info["data_path"].format(**place))
  assert table["episode_index"].to_pylist() == [0] * 6 + [1] * 7 + [2] * 8
  assert table["index"].to_pylist() == list(range(21))
  film = path / info["video_path"].format(
      video_key="observation.images.wrist", **place)
  assert video.probe(film)[:2] == (21, 10.0)
  rows = pq.read_table(path / "meta/episodes").to_pylist()
  assert [row["videos/observation.images.wrist/from_timestamp"]
          for row in rows] == [0.0, 0.6, 1.3]
  assert [(row["dataset_from_index"], row["dataset_to_index"])
          for row in rows] == [(0, 6), (6, 13), (13, 21)]
  stats = json.loads((path / "meta/stats.json").read_text())
  state = np.concatenate([episode.state for episode in episodes])
  for name, value in (("mean", state.mean(0)), ("std", state.std(0)),
                      ("q01", np.quantile(state, 0.01, axis=0))):
    np.testing.assert_allclose(
        stats["observation.state"][name], value, atol=1e-6)


def test_frames_are_repeated_to_the_control_rate(tmp_path, embodiment,
                                                 make_episode):
  episode = make_episode(2, 5)  # 5 frames at 5 Hz, 9 steps at 10 Hz
  lerobot_export.write(tmp_path / "r", [episode], embodiment)
  found = lerobot.Folder(tmp_path / "r", embodiment).episode(episode.id)
  assert found.clock == types.Clock(10.0, 10.0)
  brightness = found.video["front"][..., 0].mean((1, 2)) / 20
  np.testing.assert_allclose(brightness.round(), [0, 1, 1, 2, 2, 3, 3, 4, 4])
  np.testing.assert_array_equal(found.action, episode.action)


def test_dreams_go_out_and_come_back(tmp_path, embodiment, make_episode):
  dream = make_episode(0, kind="dream", labelled=False, clock=CLOCK)
  lerobot_export.write(tmp_path / "r", [dream], embodiment)
  found = lerobot.Folder(tmp_path / "r", embodiment).episode(dream.id)
  assert found.state is None and found.action is None
  assert found.origin == dream.origin and found.success is None


def test_foreign_dreams(made, embodiment):
  path, _ = made
  _foreign(path)
  tasks = path / "meta/tasks.jsonl"
  tasks.write_text(tasks.read_text().replace("touch", "<DREAM>touch"))
  _retable(path, 0, **{"observation.state": [[0.0] * 3] * 6})
  folder = lerobot.Folder(path, embodiment)
  found = folder.episode(folder.ids[0])
  assert found.origin.kind == "dream" and found.state is None
  assert found.action is not None
  assert found.instruction == "touch object 0"


def test_messy_folders_are_reported_not_refused(made, embodiment):
  path, episodes = made
  _foreign(path)

  def lie(info):
    info.update(total_episodes=9, total_videos=2, total_chunks=0,
                splits={"train": "0:100"})
    feature = info["features"]["observation.images.front"]
    feature["shape"] = [800, 1280, 3]
    feature["names"][2] = "channel"
    feature["video_info"] = {"video.fps": 30.0}
    del feature["info"]
    info["features"]["observation.images.top"] = feature

  _edit(path / "meta/info.json", lie)
  (path / "meta/modality.json").write_text("{")
  with (path / "meta/episodes.jsonl").open("a") as file:
    file.write("\nnot json\n")
  (path / "videos/chunk-000/observation.images.wrist/episode_000001.mp4"
  ).write_bytes(b"junk")
  (path / "videos/chunk-000/observation.images.front/episode_000002.mp4"
  ).write_bytes(video.encode(episodes[2].video["front"][:5], 10.0))
  folder = lerobot.Folder(path, embodiment,
                          report=checks.Report(keep=["length"]))
  text = "\n".join(folder.findings)
  for words in (
      "modality.json is not valid JSON", "1 lines of meta/episodes.jsonl",
      "'observation.images.front' is 800 x 1280; it is 16 x 16",
      "has 30 frames a second; it has 10",
      "promises the video 'observation.images.top', which has no files",
      "promises 9 episodes, 3 have", "promises 2 videos, 6",
      "promises 0 chunks, 1", "Split 'train' is 0:100",
  ):
    assert words in text, words
  assert len(folder.findings) == 9
  bad, short = folder.report.problems
  assert str(bad).startswith("robot-000001: Not a readable video")
  assert bad.skipped and not short.skipped
  assert "the table 8, camera 'front' 5" in str(short)
  assert folder.ids == ["robot-000000", "robot-000002"]
  short = folder.episode("robot-000002")
  assert len(short.video["wrist"]) == len(short.video["front"]) == 5
  np.testing.assert_array_equal(short.state, episodes[2].state[:5])
  assert short.instruction == "touch object 2"
  assert short.origin == types.Origin("robot", dataset="robot")


def test_a_short_table_cuts_the_video(made, embodiment):
  path, episodes = made
  lerobot_table = path / "data/chunk-000/episode_000001.parquet"
  pq.write_table(pq.read_table(lerobot_table).slice(0, 4), lerobot_table)
  folder = lerobot.Folder(path, embodiment,
                          report=checks.Report(keep=["length"]))
  assert folder.report.counts() == {"length": 1}
  found = folder.episode("episode_1")
  assert len(found.video["front"]) == len(found.action) == 4
  np.testing.assert_array_equal(found.state, episodes[1].state[:4])


def test_missing_cameras_rates_and_lengths(made, embodiment):
  path, _ = made
  _foreign(path)
  shutil.rmtree(path / "videos/chunk-000/observation.images.wrist")
  for name in ("episodes.jsonl", "info.json", "modality.json"):
    (path / "meta" / name).unlink()
  _retable(path, 1, timestamp=[0.2 * i for i in range(7)])
  folder = lerobot.Folder(path, embodiment)
  text = "\n".join(folder.findings)
  for words in ("info.json is missing", "episodes.jsonl is missing",
                "Camera 'wrist' has no video files",
                "Episode 1: the table runs at 5 Hz, the video at 10 Hz"):
    assert words in text, words
  assert folder.report.counts() == {"clock": 1}
  assert list(folder.cameras) == ["front"] and len(folder) == 2


def test_modality_sorts_keys_and_names_videos(made, embodiment):
  path, episodes = made
  _foreign(path)
  action = episodes[0].action
  moved = np.concatenate([action[:, 2:], action[:, :2]], axis=1)
  _retable(path, 0, action=moved.tolist())

  def swap(modality):
    modality["action"] = {
        "turn": {"start": 0, "end": 1}, "gripper": {"start": 1, "end": 2},
        "target": {"start": 2, "end": 4}}
    modality["video"]["front"]["original_key"] = "head"

  _edit(path / "meta/modality.json", swap)
  (path / "videos/chunk-000/observation.images.front").rename(
      path / "videos/chunk-000/head")
  folder = lerobot.Folder(path, embodiment)
  assert folder.cameras["front"] == "head"
  np.testing.assert_array_equal(folder.episode("robot-000000").action, action)


def test_cameras_can_be_named(made, embodiment):
  path, _ = made
  (path / "videos/chunk-000/observation.images.front").rename(
      path / "videos/chunk-000/cam_7")
  (path / "meta/modality.json").unlink()
  folder = lerobot.Folder(path, embodiment, {"front": "cam_7"})
  assert folder.cameras["front"] == "cam_7"


def test_instruction_by_annotation(made, embodiment):
  path, _ = made
  _foreign(path)
  _retable(path, 0, task_index=[99] * 6,
           **{"annotation.human.coarse_action": [[1]] * 6})
  _retable(path, 1, task_index=[99] * 7)
  folder = lerobot.Folder(path, embodiment)
  assert folder.episode("robot-000000").instruction == "touch object 1"
  assert folder.episode("robot-000001").instruction == "touch object 1"


def test_folders_that_cannot_be_used(made, tmp_path, embodiment):
  path, _ = made
  with pytest.raises(errors.DataError, match="no LeRobot folder"):
    lerobot.Folder(tmp_path / "nowhere", embodiment)
  other = dataclasses.replace(embodiment, cameras={"top": "front"})
  with pytest.raises(errors.DataError, match=r"no video of the cameras \['top"):
    lerobot.Folder(path, other)
  _edit(path / "meta/info.json",
        lambda info: info.update(codebase_version="v4.0"))
  with pytest.raises(errors.DataError, match="LeRobot v4.0; v2.0, v2.1 and"):
    lerobot.Folder(path, embodiment)
  _edit(path / "meta/info.json",
        lambda info: info.update(codebase_version="v2.0"))
  for file in path.glob("data/chunk-000/*"):
    file.write_bytes(b"junk")
  with pytest.raises(errors.DataError, match="Nothing in .* cannot be read"):
    lerobot.Folder(path, embodiment)


def test_widths_that_do_not_fit(made, embodiment):
  path, _ = made
  wide = dataclasses.replace(embodiment, state=(types.Key("joints", 9),))
  folder = lerobot.Folder(path, wide)
  with pytest.raises(errors.DataError, match=r"width 3 .* needs 9"):
    folder.episode("episode_0")
  wide = dataclasses.replace(
      embodiment, state=(types.Key("position", 3), types.Key("yaw", 1)))
  with pytest.raises(errors.DataError, match="'position' 2 values; .* needs 3"):
    lerobot.Folder(path, wide).episode("episode_0")


def test_export_refuses(tmp_path, embodiment, make_episode):
  a, b = make_episode(0), make_episode(1, size=24)
  with pytest.raises(errors.ConfigError, match="v2.0, v2.1, v3.0"):
    lerobot_export.write(tmp_path / "r", [a], embodiment, "v3")
  for episodes, words in [
      ([], "no episode"), ([a, b], "the ones before"),
      ([a, make_episode(1, clock=CLOCK)], "resample them first")]:
    with pytest.raises(errors.DataError, match=words):
      lerobot_export.write(tmp_path / "r", episodes, embodiment)
    assert not list(tmp_path.iterdir())
  lerobot_export.write(tmp_path / "r", [a], embodiment)
  with pytest.raises(errors.DataError, match="exists already"):
    lerobot_export.write(tmp_path / "r", [a], embodiment)


@pytest.mark.skipif(not GR1.exists(), reason="the real GR1 data is not here")
def test_real_gr1_episodes():
  folder = lerobot.Folder(GR1, gr1.EMBODIMENT)
  assert len(folder) == 5 and folder.clock == types.Clock(20.0, 20.0)
  assert len(folder.findings) == 4
  episode = folder.episode(folder.ids[4])
  assert episode.video["ego_view"].shape == (328, 256, 256, 3)
  assert episode.video["ego_view"].std() > 20
  assert episode.state.shape == episode.action.shape == (328, 44)
  assert episode.instruction == (
      "pick the cupcake from the counter and place it in the plate")
  column = folder._files.table(4)["action"].to_pylist()
  np.testing.assert_array_equal(episode.action, np.float32(column))
  assert not episode.action[:, 13:22].any()  # legs and neck
