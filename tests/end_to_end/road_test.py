"""The quickstart's road at its smallest: every stage, then nothing twice."""

import pathlib

import pytest

from dreamgen_jax import errors, main, options
from dreamgen_jax.data import rlds
from dreamgen_jax.sims.tabletop import tasks
from dreamgen_jax.stages import artefact, models, pipeline

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "quickstart.py"
SMALL = {
    "demonstrations.episodes": 6, "demonstrations.shards": 2,
    "heldout.episodes": 2, "heldout.shards": 1, "prompts.episodes": 7,
    "prompts.shards": 1, "rehearsal.episodes": 3, "wander.episodes": 2,
    "finetune.train.steps": 2,
    "finetune.train.batch_size": 2, "finetune.batch_size": 2,
    "finetune.evaluate_clips": 2, "finetune.sampler.steps": 2,
    "finetune.sampler.batch_size": 2, "dreams.steps": 2,
    "dreams.batch_size": 2, "dreams.shards": 2, "dreams.guidance": 1.5,
    "labeler.train.steps": 2, "labeler.train.batch_size": 4,
    "neural.samples": 2, "neural.shards": 1, "heldout_labels.samples": 2,
    "heldout_labels.shards": 1, "evaluation.trials": 1,
    "evaluation.batch_size": 1, "evaluation.horizon": 4,
    "evaluation.verbs": ("pick_place", "push"), "evaluation.novel": ("push",),
    "report.novel": ("push",),
} | {f"labeler.model.kw.{key}": value for key, value in (
    ("vision_depth", 1), ("refine_depth", 1), ("dit_depth", 1),
    ("sample_steps", 2))} | {
    f"policy_{name}.{key}": value
    for name in ("neural", "mixed", "demos")
    for key, value in (
        ("train.steps", 2), ("train.batch_size", 4),
        ("model.kw.widths", (16,)), ("model.kw.inference_steps", 2),
        ("model.kw.vision", dict(widths=(16,), blocks=(1,), strides=(1,))))
}


@pytest.fixture(scope="module")
def weights(make_weights):
  """A nano world model that knows the words of all tasks."""
  colours = "red green blue yellow orange cyan pink purple white black"
  return make_weights([
      colours, *(phrase.format_map(_Any()) for task in tasks.TASKS.values()
                 for phrase in task.phrases)])


class _Any(dict):

  def __missing__(self, key):
    return "red"


def arguments(workdir, weights, **changes):
  values = SMALL | {
      f"{name}.source": weights for name in (
          "finetune.model", "policy_neural.text", "policy_mixed.text",
          "policy_demos.text")} | changes
  return ["main", f"--config={CONFIG}", f"--workdir={workdir}", "--debug",
          *(f"--config.{key}={value}" for key, value in values.items())]


@pytest.mark.slow
@pytest.mark.sim
def test_road(tmp_path, weights, cheap, capsys):
  workdir = tmp_path / "run"
  command = arguments(workdir, weights)
  assert main.main(command) == 0, capsys.readouterr().err
  page = (workdir / "report.html").read_text()
  for word in ("dreams only", "demonstrations only", "no-op", "push"):
    assert word in page
  dreams = rlds.Dataset(workdir / "dreams" / "data")
  dream = dreams.episode(0)
  assert dream.video["front"].shape == (17, 64, 64, 3)
  assert dream.origin.kind == "dream"
  assert dream.origin.source_id in rlds.Dataset(
      workdir / "prompts" / "data").ids
  assert dream.origin.world_model
  assert dream.origin.adapter
  assert dream.action is None
  neural = rlds.Dataset(workdir / "neural" / "data").episode(0)
  assert neural.action.shape == (17, 5)
  assert neural.spread.shape == (17, 5)
  assert neural.state is None
  assert neural.origin.labeler

  # The same command again does nothing; a change runs what depends on it.
  capsys.readouterr()
  assert main.main(command) == 0
  said = capsys.readouterr().out
  assert "starts" not in said
  changed = arguments(workdir, weights, **{"evaluation.trials": 2})
  assert main.main(changed) == 0
  said = capsys.readouterr().out
  assert "[evaluation] runs again, config.trials: 1 -> 2" in said
  assert "[labeler] finished before" in said
  assert said.count("] starts") == 2  # evaluation and report


def load(*overrides):
  config = options.load(str(CONFIG))
  options.override(config, overrides)
  return config


def test_a_stage_before_its_inputs_says_so(tmp_path):
  with pytest.raises(errors.ConfigError, match="needs 'demonstrations'"):
    pipeline.run(load(), tmp_path / "run", "labeler")


def test_missing_dataset(tmp_path):
  config = load()
  with config.unlocked():
    config.labeler.inputs.demonstrations = "no/such/folder"
  with pytest.raises(errors.ConfigError, match="no/such/folder"):
    pipeline.run(config, tmp_path / "run")


@pytest.mark.parametrize("key, value, expected", [
    ("demonstrations.verbs", "('pik_place',)", "pick_place"),
    ("demonstrations.robots", "('pandas',)", "panda"),
])
@pytest.mark.sim
def test_unknown_verb_and_embodiment(tmp_path, key, value, expected):
  config = load((key, value), ("demonstrations.episodes", "1"),
                ("demonstrations.workers", "1"))
  with pytest.raises(errors.ConfigError, match=expected):
    pipeline.run(config, tmp_path / "run", "demonstrations")


def test_workdir_of_something_else(tmp_path):
  (tmp_path / "thesis.tex").write_text("x")
  with pytest.raises(errors.ConfigError, match="holds files of something"):
    pipeline.run(load(), tmp_path, "demonstrations")
  assert (tmp_path / "thesis.tex").read_text() == "x"


def test_steps_come_after_what_they_read():
  road = list(pipeline.steps(load()))
  assert road.index("finetune") < road.index("dreams") < road.index("neural")
  assert road.index("policy_neural") < road.index("evaluation")
  assert road[-1] == "report"


def test_how_a_model_runs_is_no_part_of_the_key():
  spec = dict(name="wan", preset="nano", kw={})
  assert models.resolve(spec) == models.resolve(
      spec | dict(kw=dict(transformer=dict(remat="dots"))))
  assert models.resolve(spec) != models.resolve(
      spec | dict(kw=dict(transformer=dict(layers=3))))


def test_a_preset_is_part_of_the_key():
  step = pipeline.steps(load())["labeler"]
  other = pipeline.steps(load(("labeler.model.kw.dit_depth", "3")))["labeler"]
  keys = {artefact.Artefact(pathlib.Path(), "labeler",
                            pipeline.resolve(each), {}).key
          for each in (step, other)}
  assert len(keys) == 2
