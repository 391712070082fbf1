"""Keys, what counts as done, what is said about changes, what is kept."""

import dataclasses
import json
import subprocess
import sys

import ml_collections
import pytest

from dreamgen_jax import errors
from dreamgen_jax.stages import artefact

CONFIG = {"model": {"name": "wan", "kw": {}}, "steps": 3, "size": (64, 64)}


@pytest.fixture
def dream(tmp_path):
  return artefact.Artefact(
      tmp_path, "dream", CONFIG, {"adapter": "a" * 64}, "1")


def _again(old, **changes):
  return dataclasses.replace(old, **changes)


def test_key_ignores_the_order_and_the_kind_of_sequence(dream):
  reordered = {"size": [64, 64], "steps": 3, "model": {"kw": {}, "name": "wan"}}
  assert _again(dream, config=reordered).key == dream.key


def test_key_is_the_same_in_another_process(dream):
  script = (
      "from dreamgen_jax.stages import artefact; print(artefact.Artefact("
      f"'.', 'dream', {CONFIG!r}, {dream.inputs!r}, '1').key)")
  out = subprocess.run(
      [sys.executable, "-c", script], capture_output=True, text=True,
      check=True)
  assert out.stdout.strip() == dream.key


@pytest.mark.parametrize("change", [
    {"stage": "label"},
    {"config": {**CONFIG, "steps": 4}},
    {"config": {**CONFIG, "steps": 3.5}},
    {"inputs": {"adapter": "b" * 64}},
    {"inputs": {"base": "a" * 64}},
    {"code": "2"},
])
def test_key_depends_on_everything_that_makes_the_result(dream, change):
  assert _again(dream, **change).key != dream.key


def test_key_does_not_depend_on_the_folder(dream, tmp_path):
  assert _again(dream, workdir=tmp_path / "other").key == dream.key


def test_done_only_after_finish_and_only_for_the_same_key(dream):
  assert not dream.is_done()
  dream.prepare()
  (dream.folder / "video.mp4").write_bytes(b"x")
  assert not dream.is_done()
  dream.finish(1.23456, {"dreams": 3}, {"jax": "0"})
  assert dream.is_done()
  assert not _again(dream, code="2").is_done()
  record = json.loads((dream.folder / "artefact.json").read_text())
  assert record["metrics"] == {"dreams": 3}
  assert record["seconds"] == 1.235
  assert record["key"] == dream.key
  assert sorted(path.name for path in dream.folder.iterdir()) == [
      "artefact.json", "video.mp4"]


def test_unfinished_work_of_the_same_key_goes_on(dream):
  assert dream.prepare() is None
  (dream.folder / "shard").write_text("half")
  assert dream.changes() == []
  assert dream.prepare() is None
  assert (dream.folder / "shard").read_text() == "half"


@pytest.mark.parametrize("finish", [True, False])
def test_another_key_moves_the_folder_aside_and_says_why(dream, finish):
  dream.prepare()
  (dream.folder / "shard").write_text("old")
  if finish:
    dream.finish(0)
  changed = _again(
      dream, config={"model": {"name": "wan", "kw": {"width": 8}},
                     "steps": 4, "size": (64, 64)},
      inputs={"adapter": "b" * 64})
  assert changed.changes() == [
      "config.model.kw: {} -> (none)",
      "config.model.kw.width: (none) -> 8",
      "config.steps: 3 -> 4",
      "inputs.adapter: aaaaaaaa -> bbbbbbbb",
  ]
  aside = changed.prepare()
  assert aside == dream.folder.with_name(f"dream.old-{dream.key[:8]}")
  assert (aside / "shard").read_text() == "old"
  assert [path.name for path in changed.folder.iterdir()] == ["unfinished.json"]
  assert not changed.is_done()


def test_moving_aside_twice_loses_nothing(dream):
  other = _again(dream, code="2")
  for number in range(2):
    for one in (dream, other):
      one.prepare()
      (one.folder / "mark").write_text(str(number))
  asides = sorted(dream.workdir.glob("dream.old-*"))
  assert len(asides) == 3
  assert (dream.folder / "mark").read_text() == "1"


def test_foreign_files_in_a_step_folder_are_kept(dream):
  dream.folder.mkdir()
  (dream.folder / "notes.txt").write_text("mine")
  aside = dream.prepare()
  assert aside.name == "dream.old-unknown"
  assert (aside / "notes.txt").read_text() == "mine"


def test_a_damaged_record_is_an_error_that_says_what_to_do(dream):
  dream.folder.mkdir()
  (dream.folder / "artefact.json").write_text("{")
  with pytest.raises(errors.DataError, match="move the folder"):
    dream.is_done()


def test_a_failed_write_leaves_the_old_file(dream, monkeypatch):
  dream.prepare()
  dream.finish(0, {"old": 1})
  with pytest.raises(TypeError):
    dream.finish(0, {"new": object()})
  assert dream.record()["metrics"] == {"old": 1}


def test_claim_takes_new_empty_and_own_folders(tmp_path):
  folder = tmp_path / "deep" / "run"
  config = ml_collections.ConfigDict({"steps": 1, "size": (1, 2)})
  first = artefact.claim(folder, config)
  second = artefact.claim(folder, {"steps": 2})
  assert first["config"].to_dict() == {"steps": 1, "size": (1, 2)}
  assert second["created"] == first["created"]
  stored = json.loads((folder / "run.json").read_text())
  assert stored["config"] == {"steps": 2}
  (tmp_path / "empty").mkdir()
  artefact.claim(tmp_path / "empty", {})


def test_claim_refuses_what_is_not_ours(tmp_path):
  (tmp_path / "thesis.tex").write_text("x")
  with pytest.raises(errors.ConfigError, match=r"thesis\.tex"):
    artefact.claim(tmp_path, {})
  assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
  with pytest.raises(errors.ConfigError, match="cannot be made"):
    artefact.claim(tmp_path / "thesis.tex", {})


def test_digest_sees_contents_and_names(tmp_path):
  folder = tmp_path / "data"
  (folder / "deep").mkdir(parents=True)
  (folder / "deep" / "a").write_text("1")
  first = artefact.digest(folder)
  (folder / "deep" / "a").rename(folder / "deep" / "b")
  second = artefact.digest(folder)
  (folder / "deep" / "b").write_text("2")
  third = artefact.digest(folder)
  assert len({first, second, third}) == 3
  (folder / "deep" / "dreamgen_statistics_0.json").write_text("{}")
  assert artefact.digest(folder) == third  # reading leaves no trace
  (folder / "README.md").write_text("What this is.")
  assert artefact.digest(folder) == third  # nor does telling of it
  with pytest.raises(errors.DataError, match="does not exist"):
    artefact.digest(tmp_path / "nothing")
