"""What the program says to mistakes, and that it says so before JAX starts."""

import subprocess
import sys

import pytest

from dreamgen_jax import errors, main

FILE = '''
import ml_collections

def get_config(arg=None):
  return ml_collections.ConfigDict(
      {"seed": 0, "dream": {"stage": "dream", "inputs": {}}})
'''


@pytest.fixture
def path(tmp_path):
  file = tmp_path / "one.py"
  file.write_text(FILE)
  return str(file)


@pytest.fixture
def pipeline(monkeypatch):
  """Stands in for the stages; records its calls."""
  calls = []

  def run(config, workdir, stage):
    calls.append((config, workdir, stage))
    if config.seed == 13:
      raise errors.DataError("Seed 13 has no episodes.")

  module = type(sys)("pipeline")
  module.run = run
  monkeypatch.setitem(sys.modules, "dreamgen_jax.stages.pipeline", module)
  import dreamgen_jax.stages
  monkeypatch.setattr(
      dreamgen_jax.stages, "pipeline", module, raising=False)
  return calls


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "No config; give --config"),
    (["--config=CONFIG"], "No workdir; give --workdir: folder"),
    (["--config=CONFIG", "--workdir=w", "--stage=dreem"],
     "Unknown stage 'dreem'"),
    (["--config=CONFIG", "--workdir=w", "--config.sead=1"],
     "Unknown config key 'sead'. Did you mean 'seed'?"),
    (["--config=CONFIG", "--workdri=w"], "Unknown option --workdri. Did you"),
    (["--config=CONFIG", "--workdir=w", "more"], "Unexpected argument 'more'"),
    (["--config=CONFIG", "--workdir=gs://bucket/x"], "Mount the bucket"),
    (["--config=CONFIG", "--workdir=w", "--profile_steps=9:3"],
     "--profile_steps=9:3 names no steps"),
    (["--config=CONFIG", "--workdir"], "Missing value for flag --workdir"),
    (["--config=CONFIG", "--workdir=w", "--config.seed=13"], "no episodes."),
])
def test_mistakes(path, pipeline, capsys, arguments, message):
  given = [part.replace("CONFIG", path) for part in arguments]
  assert main.main(["main", *given]) == 2
  said = capsys.readouterr()
  assert said.out == ""
  assert said.err.startswith("error: ")
  assert message in said.err
  assert said.err.count("\n") == 1


def test_a_run_gets_the_resolved_config(path, pipeline):
  code = main.main(["main", f"--config={path}", "--workdir", "w",
                    "--config.seed=5", "--stage=dream"])
  assert code == 0
  [(config, workdir, stage)] = pipeline
  assert config.seed == 5
  assert str(workdir) == "w"
  assert stage == "dream"


def test_help_names_every_option(capsys):
  assert main.main(["main", "--help"]) == 0
  said = capsys.readouterr().out
  for option in ("--config", "--workdir", "--stage", "--debug"):
    assert option in said


def test_debug_adds_the_traceback(path, pipeline, capsys):
  arguments = ["main", f"--config={path}", "--workdir=w", "--config.seed=13"]
  assert main.main([*arguments, "--debug"]) == 2
  assert "Traceback" in capsys.readouterr().err


def test_as_a_program_mistakes_show_before_jax_is_imported(path):
  script = (
      "import sys; from dreamgen_jax import main\n"
      f"code = main.main(['main', '--config={path}', '--workdir=w', "
      "'--config.sed=1'])\n"
      "assert 'jax' not in sys.modules and 'numpy' not in sys.modules\n"
      "sys.exit(code)")
  out = subprocess.run(
      [sys.executable, "-c", script], capture_output=True, text=True)
  assert out.returncode == 2, out.stderr
  assert out.stderr == (
      "error: Unknown config key 'sed'. Did you mean 'seed'?\n")
