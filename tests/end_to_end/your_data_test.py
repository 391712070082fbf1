"""README's "Your data", followed to the letter with a dataset never seen."""

import dataclasses
import json
import pathlib
import re
import types

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds

from dreamgen_jax import checkpoint, options
from dreamgen_jax.data import inspect
from dreamgen_jax.labelers import idm
from dreamgen_jax.stages import pipeline, train_labeler
from tests import recorded

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = dict(vision_depth=1, vision_width=32, vision_mlp=64, width=32, heads=2,
             vision_heads=2, refine_depth=1, dit_depth=1, sample_steps=2,
             draws=1, camera_size=16, resizes=(16,))
STEPS = 9


def make(seed):
  """One episode of the arm that README describes."""
  rng = np.random.default_rng(seed)
  half = np.cumsum(rng.normal(scale=0.1, size=STEPS))
  tcp = np.zeros((STEPS, 7), np.float32)
  tcp[:, :3] = 1000 * np.cumsum(rng.normal(scale=0.01, size=(STEPS, 3)), 0)
  axis = rng.normal(size=3)
  tcp[:, 3:6] = np.sin(half)[:, None] * axis / np.linalg.norm(axis)
  tcp[:, 6] = np.cos(half)
  return {
      "trajectory": {
          "arm": {"tcp": tcp, "jaws": rng.uniform(0, 100, STEPS)},
          "order": np.repeat(rng.random((STEPS, 1)) > 0.5, 7, 1).astype(
              np.float32),
          "rgb": {"static": recorded.jpegs(STEPS, seed=seed),
                  "hand": recorded.jpegs(STEPS, seed=seed + 1)},
          "stamp": 100_000 * np.arange(STEPS)},
      "task": {"text": f"push {seed}".encode() if seed else b"",
               "paraphrase": b"", "done": 1}}


@pytest.fixture
def uncompiled(monkeypatch):
  """The stage's training without its compiler: one batch, traced only."""
  seen = []

  def init(model, rng):
    shapes = jax.eval_shape(lambda key: make_params(model, key), rng)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)

  def fit(model, params, batches, config, *unused, **unused_too):
    batch = next(batches)
    wanted = model.example(config.batch_size)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), batch) == (
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), wanted))
    jax.eval_shape(model.loss, params, jax.random.key(0), batch)
    seen.append(batch)
    return types.SimpleNamespace(params=params, seconds=0.0)

  make_params = idm.Model.init
  monkeypatch.setattr(idm.Model, "init", init)
  monkeypatch.setattr(train_labeler.train, "fit", fit)
  monkeypatch.setattr(
      train_labeler.annotator, "load", lambda *unused, **unused_too:
      types.SimpleNamespace(label=lambda episodes: [
          dataclasses.replace(each, spread=np.ones_like(each.action))
          for each in episodes]))
  return seen


def test_a_dataset_never_seen_trains_a_labeler(tmp_path, capsys, uncompiled):
  section = re.search(r"## Your data\n(.*?)\n## ", (
      ROOT / "README.md").read_text(), re.DOTALL)[1]
  code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
  assert code.count("\n") < 30
  (tmp_path / "my_arm.py").write_text(code)
  f = tfds.features
  image = f.Image(shape=(16, 16, 3), encoding_format="jpeg")
  recorded.write(tmp_path / "lab" / "2.1.0", f.FeaturesDict({
      "trajectory": f.Dataset({
          "arm": {"tcp": f.Tensor(shape=(7,), dtype=np.float32),
                  "jaws": f.Scalar(dtype=np.float64)},
          "order": f.Tensor(shape=(7,), dtype=np.float32),
          "rgb": {"static": image, "hand": image},
          "stamp": f.Scalar(dtype=np.int64)}),
      "task": {"text": f.Text(), "paraphrase": f.Text(),
               "done": f.Scalar(dtype=np.int32)}}),
      [make(seed) for seed in range(6)])

  names = {"my_arm.py": tmp_path / "my_arm.py", "DIR": tmp_path / "lab",
           "look.html": tmp_path / "look.html",
           "runs/my_arm": tmp_path / "run"}
  look, train = (
      [re.sub("|".join(names), lambda name: str(names[name[0]]), part)
       for part in line.replace("\\\n", "").split()[2:]]
      for line in re.findall(r"python -m (?:[^`\n\\]|\\\n)*", section))
  assert inspect.main(look) == 1  # one episode has no instruction
  assert "6, of 9 to 9" not in (said := capsys.readouterr().out)
  assert "5, of 9 to 9 steps" in said and "1 x instruction" in said

  others, overrides = options.split(train)
  config = options.load(str(ROOT / others[1].partition("=")[2]), [
      *overrides, ("steps", "2"), ("gap", "2")])
  with config.unlocked():
    config.labeler.model.kw.update(SMALL)
    config.labeler.train.batch_size = 16
  pipeline.run(config, tmp_path / "run")
  done = json.loads((tmp_path / "run/demonstrations/artefact.json").read_text())
  assert done["metrics"]["problems"] == {"instruction": 1}  # kept, and told
  held = json.loads((tmp_path / "run/heldout/artefact.json").read_text())
  assert done["metrics"]["episodes"] + held["metrics"]["episodes"] == 6
  _, facts = checkpoint.load(tmp_path / "run/labeler/checkpoint")
  assert [key["name"] for key in facts["embodiment"]["action"]] == [
      "move", "turn", "gripper_close"]
  assert facts["cameras"] == ["side", "hand"]
  (batch,) = uncompiled
  known = batch["mask"].all(axis=(1, 2))
  assert known.any() and not known.all()  # the last step's motion is not
  assert np.abs(batch["action"]).max() <= 1
  capsys.readouterr()
  pipeline.run(config, tmp_path / "run")
  assert capsys.readouterr().out.count("finished before") == 3
