"""Tests of the way back from an action to a demonstration."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from dreamgen_jax import provenance, types
from dreamgen_jax.data import rlds

ROBOT = types.Embodiment(
    name="stick", id=7, state=(types.Key("joints", 2, unit="rad"),),
    action=(types.Key("target", 2, unit="m"), types.Key("gripper", 1)),
    cameras={"front": "front"}, clock=types.Clock(5.0, 10.0))


def _episode(name, red, frames, kind="robot", steps=None, **origin):
  """`red` of each frame is red + its index."""
  video = np.zeros((frames, 8, 8, 3), np.uint8)
  video[..., 0] = red + np.arange(frames)[:, None, None]
  values = None if steps is None else np.arange(
      steps, dtype=np.float32)[:, None] * np.ones(3, np.float32)
  return types.Episode(
      id=name, video={"front": video}, instruction="touch it",
      embodiment="stick", clock=ROBOT.clock, action=values,
      spread=None if values is None else values / 100,
      origin=types.Origin(kind, **origin))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run's folder: demonstrations, prompts, neural trajectories."""
  root = tmp_path_factory.mktemp("run")
  demos = rlds.write(root / "demonstrations/data", "demos", [
      _episode("demo", 60, 9, steps=17)], ROBOT)
  prompt = dataclasses.replace(
      _episode("p0", 64, 1, dataset=demos.digest[:16], source_id="demo"),
      facts={provenance.FRAME: 4})
  prompts = rlds.write(root / "prompts/data", "prompts", [prompt], ROBOT)
  rlds.write(root / "neural/data", "neural", [_episode(
      "n0", 200, 9, "dream", 17, dataset=prompts.digest[:16], source_id="p0",
      world_model="wm", adapter="lora", labeler="idm", seed=3,
      sampler='{"steps": 4}', scores={"judge": 0.75}, labeling='{"gap": 1}')],
             ROBOT)
  for name, inputs in (("demonstrations", {}), ("prompts", {}), ("neural", {
      "prompts": "key-prompts", "labeler": "key-labeler"})):
    (root / name / "artefact.json").write_text(json.dumps(
        {"key": f"key-{name}", "stage": name, "inputs": inputs}))
  return root


def test_the_chain_ends_at_the_demonstration(run, tmp_path, capsys):
  assert provenance.main(["provenance", f"--dataset={run / 'neural'}",
                          "--episode=n0", "--step=6",
                          f"--output={tmp_path / 'strip.png'}"]) == 0
  said = capsys.readouterr().out
  places = [said.index(words) for words in (
      "action of step 6 (0.60 s), labelled by idm", "target[1]: 6 +- 0.06 m",
      "video 'n0'", "world model wm, adapters lora",
      'seed 3, sampler {"steps": 4}', 'labelling {"gap": 1}',
      "scores: judge 0.75; kept", "neural: ", "prompts: ",
      "labeler: key-labe, elsewhere", "start frame 'p0'", "frame 0;",
      "demonstration 'demo'", "frame 4;")]
  assert places == sorted(places)
  strip = np.asarray(Image.open(tmp_path / "strip.png"))
  tiles = strip[100, 96::192, 0].astype(int)  # oldest first
  np.testing.assert_allclose(tiles, [64, 64, 200, 203, 208], atol=2)


def test_what_cannot_be_found_is_said(run, tmp_path, capsys):
  lone = rlds.write(tmp_path / "lone", "lone", [_episode(
      "a", 9, 3, "dream", dataset="gone", source_id="b")], ROBOT)
  assert provenance.main(["p", f"--dataset={lone.path}", "--episode=a"]) == 0
  said = capsys.readouterr().out
  assert "no action" in said and "not found" in said and "--search" in said
  for more, words in (
      (["--episode=m0"], "Did you mean 'n0'"),
      (["--episode=n0", "--step=17"], "has 17 steps, no step 17"),
      (["--episode=n0", "--step=x"], "a whole number"),
      ([], "No episode; give --episode")):
    assert provenance.main(["p", f"--dataset={run / 'neural'}", *more]) == 2
    assert words in capsys.readouterr().err
