"""What a step's result depends on; who keeps a run's books; failing disks."""

import json
import shutil
import sys
import types

import pytest

from configs import common
from dreamgen_jax import errors, hosts, runtime
from dreamgen_jax.stages import pipeline


@pytest.fixture
def stage(monkeypatch):
  """A stage that counts its runs; `does(folder)` is set by tests."""
  module = types.ModuleType("dreamgen_jax.stages.counted")
  module.runs, module.does = 0, lambda folder: None

  def run(config, inputs, folder):
    module.runs += 1
    module.does(folder)
    return {"runs": module.runs}

  module.run = run
  monkeypatch.setitem(sys.modules, module.__name__, module)
  monkeypatch.setattr(runtime, "start", lambda cache_folder: None)
  return module


def config(**train):
  return common.section(count=common.section(
      stage="counted", train=common.train(
          3, 2, common.optim(0.1, 1), **train))).lock()


def test_how_a_training_runs_does_not_change_what_it_is(stage, tmp_path,
                                                        capsys):
  pipeline.run(config(), tmp_path / "run")
  pipeline.run(config(mesh=common.section(fsdp=4), checkpoint_seconds=9.0,
                      nonfinite="skip"), tmp_path / "run")
  assert stage.runs == 1
  assert "nothing changed" in capsys.readouterr().out
  pipeline.run(config(seed=1), tmp_path / "run")
  assert stage.runs == 2


def test_two_processes_do_not_run_the_same_stage(stage, tmp_path):
  stage.does = lambda folder: pipeline.run(config(), tmp_path / "run")
  with pytest.raises(errors.ConfigError,
                     match="Another process is running stage 'count' in"):
    pipeline.run(config(), tmp_path / "run")
  stage.does = lambda folder: None
  pipeline.run(config(), tmp_path / "run")
  assert stage.runs == 2  # the second never began


def test_only_the_first_host_keeps_the_books(stage, tmp_path, monkeypatch,
                                             capsys):
  for name, value in (("index", 1), ("count", 2)):
    monkeypatch.setattr(hosts, name, lambda value=value: value)
  monkeypatch.setattr(hosts, "barrier", lambda: None)
  monkeypatch.setattr(hosts, "agree", lambda value: value)
  pipeline.run(config(), tmp_path / "run")
  assert stage.runs == 1 and not (tmp_path / "run").exists()
  stage.ALONE = True
  pipeline.run(config(), tmp_path / "run")
  assert stage.runs == 1 and not capsys.readouterr().out
  monkeypatch.setattr(hosts, "index", lambda: 0)
  pipeline.run(config(), tmp_path / "run")
  record = json.loads((tmp_path / "run/count/artefact.json").read_text())
  assert record["metrics"] == {"runs": 2}


def test_a_workdir_that_vanishes_is_said_in_one_sentence(stage, tmp_path):
  workdir = tmp_path / "run"

  def vanish(folder):
    shutil.rmtree(workdir)
    (folder / "x").write_text("y")

  stage.does = vanish
  with pytest.raises(errors.StorageError, match="has vanished"):
    pipeline.run(config(), workdir)
  stage.does = lambda folder: None
  pipeline.run(config(), workdir)  # the same command, once it is back
  assert stage.runs == 2
