"""Policies learn from demonstrations and act in the simulator, tiny.

Diffusion Policy is the quickstart's, whose road is walked elsewhere; the
policy of tokens walks pi0's but for its head.
"""

import json

import jax
import numpy as np
import pytest

from configs import common
from dreamgen_jax import checkpoint, errors, paths, registry
from dreamgen_jax.policies import pi0
from dreamgen_jax.sims.tabletop import tasks
from dreamgen_jax.stages import adapted, models, pipeline

# What replaces sizes of the nano preset, which is walked as it is otherwise.
_GEMMA = dict(width=16, depth=2, ffn=16, heads=2, head_dim=8)
TINY = {
    "groot_n1_nano": dict(
        backbone=dict(
            vision=dict(width=16, depth=1, heads=2, mlp_width=16, patch=16),
            language=dict(width=16, layers=1, ffn=16, heads=2, kv_heads=2,
                          head_dim=8),
            width=16),
        head=dict(width=16, heads=2, depth=2, hidden=16), sample_steps=2,
        draws=1),
    "pi0_nano": dict(
        vision=dict(width=16, depth=1, heads=2, mlp_width=16, patch=16),
        language=_GEMMA, expert=_GEMMA, steps=2),
}


class _Any(dict):

  def __missing__(self, key):
    return "red"


@pytest.fixture(scope="module")
def words(make_weights):
  """A nano world model that knows the words of all tasks."""
  colours = "red green blue yellow orange cyan pink purple white black"
  return make_weights([
      colours, *(phrase.format_map(_Any()) for task in tasks.TASKS.values()
                 for phrase in task.phrases)])


@pytest.fixture
def tiny(monkeypatch):
  """tiny(name of a policy) -> its family; the preset is then tiny."""

  def shrink(name):
    chosen = common.POLICIES[name]
    family = registry.find("policies", chosen["name"])
    spec = dict(name=chosen["name"], preset=chosen["preset"], kw=TINY[name])
    monkeypatch.setitem(family.PRESETS, chosen["preset"],
                        models.build("policies", spec).config)
    return family

  return shrink


def few(words, recorded, name):
  return {
      "policy": name, "policy_demos.text.source": words,
      "policy_demos.inputs.real": recorded} | {
          f"policy_demos.train.{key}": value for key, value in (
              ("steps", 2), ("batch_size", 2), ("log_steps", 1))}


@pytest.mark.slow
@pytest.mark.sim
@pytest.mark.parametrize("name", sorted(TINY))
def test_learns_and_acts(name, tmp_path, recorded, words, cheap, road, tiny):
  tiny(name)
  config = road("quickstart.py", ("policy_demos", "evaluation"), few(
      words, recorded, name) | {
          "evaluation.trials": 2, "evaluation.batch_size": 2,
          "evaluation.horizon": 8, "evaluation.videos": 0,
          "evaluation.verbs": ("push",), "evaluation.novel": ("push",)})
  pipeline.run(config, tmp_path)
  rows = json.loads(
      (tmp_path / "evaluation" / "trials.json").read_text())["trials"]
  assert [(row["policy"], row["steps"]) for row in rows] == (
      [("noop", 8)] * 2 + [("demos", 8)] * 2)


@pytest.mark.slow
@pytest.mark.sim
def test_adapters_on_released_weights(tmp_path, recorded, words, cheap, road,
                                      draw, tiny):
  family = tiny("pi0_nano")
  c = family.PRESETS["nano"]
  released = draw(family.Model(c).init, jax.random.key(0))
  pi0.save(tmp_path / "released", released, c)
  config = road("quickstart.py", ("policy_demos",),
                few(words, recorded, "pi0_nano"))
  with config.unlocked():
    section = config.policy_demos
    section.model.source = str(tmp_path / "released")
    section.lora, section.train.trainable = pi0.ADAPTERS, pi0.TUNED
    section.frozen_dtype = "bfloat16"
    section.train.optim.warmup_steps = 0
  pipeline.run(config, tmp_path / "run")
  trained, _ = checkpoint.load(
      tmp_path / "run" / "policy_demos" / "checkpoint")
  before, after = paths.flatten(released), paths.flatten(trained)
  assert before.keys() == after.keys()
  for path, leaf in before.items():
    expert = path.startswith(("words/", "experts/"))
    assert (after[path].dtype == "bfloat16") == expert, path
    same = np.asarray(leaf, after[path].dtype) == np.asarray(after[path])
    if path.endswith("/kernel"):  # of an expert, by its adapter
      assert not same.all(), path
    elif expert:
      assert same.all(), path


@pytest.mark.parametrize(("settings", "message"), [
    ([dict(rank=2, alpha=2.0, match="q"), dict(rank=2, alpha=4.0, match="k")],
     "share alpha / rank"),
    (dict(rank=2, alpha=2.0, match="q", quantize="int8"), "not quantised"),
])
def test_mistakes_in_adapters(settings, message):
  with pytest.raises(errors.ConfigError, match=message):
    adapted.adapt(pi0.Model(pi0.PRESETS["nano"]), settings)
