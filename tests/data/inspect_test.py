"""Tests of the look at a dataset: what is said, shown, and returned."""

import dataclasses
import re

import numpy as np
import pytest

from dreamgen_jax.data import inspect, rlds
from tests import recorded
from tests.data import source_test

DECLARATION = '''
from tests.data.source_test import LAYOUT as DATASET
'''


@pytest.fixture
def run(tmp_path, capsys):
  """run(flags) -> (exit code, what was said)."""
  (tmp_path / "mine.py").write_text(DECLARATION)

  def call(**flags):
    code = inspect.main(["inspect", *(
        f"--{name}={value}" for name, value in flags.items())])
    said = capsys.readouterr()
    return code, said.out + said.err

  return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  records = [source_test.make(i) for i in range(4)]
  records.append(source_test.make(5, words=[b""] * 6, info__words=b""))
  return recorded.write(
      tmp_path_factory.mktemp("lab") / "lab", source_test.FEATURES, records)


def test_a_foreign_dataset(run, folder, tmp_path):
  page = tmp_path / "page.html"
  code, said = run(dataset=tmp_path / "mine.py", path=folder, html=page,
                   episodes=2)
  assert code == 1  # there is a bad one
  for words in (
      "episodes     4, of 6 to 6 steps", "files        2 of 2 tfrecord",
      "frames/cams/a .*image\\[16, 16, 3\\] +camera front",
      "frames/proprio/pose .*state position, state turn, action move",
      "move\\[0\\] +0.0", "of 20 steps", "1 x instruction",
      "train-00000-000002: It has no instruction. Skipped."):
    assert re.search(words, said), (words, said)
  shown = page.read_text()
  assert shown.count("<img") == 2 * 2 * 6  # episodes, cameras, frames
  assert shown.count("<polyline") == 2 * (7 + 4)
  assert "train-00000-000002" in shown
  assert re.search("touch|reach for", shown)
  assert "http" not in shown.replace("http://www.w3.org", "")
  code, said = run(dataset=tmp_path / "mine.py", path=folder,
                   keep="instruction")
  assert code == 1 and "5, of 6 to 6" in said and "Skipped." not in said
  code, said = run(dataset=tmp_path / "mine.py", path=folder,
                   on_problem="fatal")
  assert code == 2 and said.startswith("error: train-00000-000002: It has no")


def test_a_dataset_of_our_own(run, tmp_path, embodiment, episodes):
  twin = dataclasses.replace(episodes[0], id="twin")
  untold = dataclasses.replace(episodes[1], id="untold", instruction=" ")
  short = dataclasses.replace(episodes[2], id="short", video={
      camera: frames[:5] for camera, frames in episodes[2].video.items()})
  good = rlds.write(tmp_path / "good", "d", episodes, embodiment)
  page = tmp_path / "page.html"
  code, said = run(dataset=good.path, html=page)
  assert code == 0 and "No problem was found" in said
  assert page.read_text().count("<img") == 4 * 2 * 8
  bad = rlds.write(tmp_path / "bad", "d", [*episodes, twin, untold, short],
                   embodiment)
  code, said = run(dataset="tabletop", path=bad.path)
  assert code == 1
  assert "twin: It holds what 'episode_0' holds." in said
  assert "untold: It has no instruction." in said
  assert "short: Its video lasts 1 s at 5 Hz, its controls 2.1 s" in said


def test_a_folder_without_a_layout(run, folder):
  code, said = run(path=folder)
  assert code == 0 and "train        5 episodes in 2 tfrecord files" in said
  assert re.search("frames/command +int32.1. +per step +-1, 0, 1", said)
  assert re.search("frames/time +int64 +per step +0 to 500", said)
  assert re.search("cams/a .* 6 pictures of 16x16", said)
  assert re.search("info/good +bool +per episode +1", said)
  assert re.search("info/words +text +per episode +'reach for 0'", said)


def test_what_cannot_be_looked_at(run, folder):
  for flags, words in (
      ({}, "No dataset; name one"),
      (dict(dataset="droit"), "Did you mean 'droid'"),
      (dict(dataset="tabletop"), "give its folder"),
      (dict(dataset="droid", path=folder), "does not have; it has: frames/"),
      (dict(dataset=folder), "does not say its embodiment"),
      (dict(dataset="droid", path=folder, keep="nam"), "Did you mean 'nan'")):
    code, said = run(**flags)
    assert code == 2 and words in said, said


def test_labels_may_be_missing(run, tmp_path, embodiment, make_episode):
  episode = make_episode(3)
  action = episode.action.copy()
  action[2:4, 1] = np.nan
  dream = dataclasses.replace(episode, action=action, origin=(
      dataclasses.replace(episode.origin, kind="dream", labeler="abc")))
  made = rlds.write(tmp_path / "d", "d", [dream], embodiment)
  code, said = run(dataset="neural_trajectories", path=made.path)
  assert code == 0, said
  demo = dataclasses.replace(dream, origin=episode.origin)
  made = rlds.write(tmp_path / "e", "d", [demo], embodiment)
  code, said = run(dataset=made.path)
  assert code == 1 and "Its action is not finite in step 2" in said
