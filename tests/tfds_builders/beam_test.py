"""An import by Apache Beam's DirectRunner is the import without it."""

import pytest

from dreamgen_jax import errors
from dreamgen_jax.data import lerobot_export
from tests.tfds_builders import importers_test
from tfds_builders import importing
from tfds_builders.lerobot import build

pytest.importorskip(
    "apache_beam", reason="needs the extra beam: pip install '.[beam]'")
# Beam holds protobuf at a version whose names TFDS still uses.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

RUNNER = "--runner=DirectRunner"
robot = importers_test.robot


def _settings(folder, **changes):
  return importing.Settings(
      str(folder), episodes_per_shard=2, beam=RUNNER, **changes)


def test_episodes_are_made_by_beam(tmp_path, robot):
  path = tmp_path / "robot"
  made = [importers_test._episode(i) for i in range(5)]
  lerobot_export.write(path, made, importers_test.ROBOT)
  importers_test._same_as_before(path)
  film = "videos/chunk-000/observation.images.wrist/episode_000003.mp4"
  (path / film).write_bytes(b"no film")
  spread = build.build(str(path), "so100", _settings(tmp_path / "a"))
  alone = build.build(str(path), "so100", importing.Settings(
      str(tmp_path / "b"), episodes_per_shard=2))
  assert spread.ids == ["e0", "e2", "e4"] and spread.digest == alone.digest
  assert spread.metadata["problems"] == {"truncated": 1, "duplicate": 1}
  said = [(tmp_path / each / importing.PROBLEMS).read_text() for each in "ab"]
  assert said[0] == said[1]
  importers_test._table(path, importers_test._not_finite)
  with pytest.raises(errors.DataError, match="failed: e1: Its action is n"):
    build.build(str(path), "so100", _settings(
        tmp_path / "c", on_problem="fatal", keep=("truncated",)))
