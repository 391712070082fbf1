"""Data from outside: a LeRobot folder walks the road's training stages."""

import pathlib
import shutil

import jax
import numpy as np
import pytest

from configs import common
from dreamgen_jax import checkpoint, metrics, registry
from dreamgen_jax.data import lerobot_export, rlds
from dreamgen_jax.stages import pipeline
from tfds_builders import importing
from tfds_builders.lerobot import build

ROOT = pathlib.Path(__file__).resolve().parents[2]
GR1 = ROOT.parent / "shared" / "data" / "gr1_robot_sim_pick_n_place"
GR1_EPISODES = (0, 4)  # two are enough, and the last is the shortest


def tabletop(folder):
  """Three short demonstrations as the simulator exports them."""
  from dreamgen_jax.sims.tabletop import collect  # needs MuJoCo

  lerobot_export.write(
      folder, [collect.collect("panda", "push", "wood", seed, length=17)
               for seed in range(3)],
      registry.find("embodiments", "tabletop_panda").EMBODIMENT)


def gr1(folder):
  """A few episodes of the recorded humanoid, with all of its meta files."""
  if not GR1.is_dir():
    pytest.skip(f"the GR1 recordings are not at {GR1}")
  shutil.copytree(GR1 / "meta", folder / "meta")
  for number in GR1_EPISODES:
    for file in GR1.glob(f"*/chunk-000/**/episode_{number:06d}.*"):
      link = folder / file.relative_to(GR1)
      link.parent.mkdir(parents=True, exist_ok=True)
      link.symlink_to(file)


def config(data, weights, *, camera, gap_seconds, horizon, labeler,
           allow_constant):
  """Fine-tune, train a labeler, label: the quickstart's sections, tiny."""
  both = dict(demonstrations=str(data), heldout=str(data))
  made = common.section(seed=0)
  made.finetune = common.section(
      stage="finetune", camera=camera, text_dropout=0.1, inputs=both,
      model=dict(name="wan", preset="nano", source=str(weights), kw={}),
      lora=dict(rank=4, alpha=4.0, match=r"blocks/.*(q|v)$"),
      batch_size=4, evaluate_clips=2,
      sampler=common.section(steps=2, guidance=1.5, batch_size=2),
      train=common.train(2, 2, common.optim(1e-3, 1), trainable="^lora/"))
  made.labeler = common.section(
      stage="train_labeler", cameras=(camera,), inputs=both,
      model=dict(name="idm", preset="nano", kw=labeler),
      allow_constant=allow_constant,
      time_base=dict(gap_seconds=gap_seconds, horizon=horizon),
      train=common.train(2, 4, common.optim(1e-3, 1)))
  made.labels = common.section(
      stage="label", inputs=dict(labeler="labeler", videos=str(data)),
      samples=2, weights="uniform", batch_size=64, shards=2)
  return made.lock()


CASES = {
    "tabletop_panda": (tabletop, dict(
        camera="front", gap_seconds=0.4, horizon=4, labeler={},
        allow_constant=False)),
    "gr1": (gr1, dict(
        camera="ego_view", gap_seconds=0.8, horizon=16,
        labeler=dict(embodiments=32),
        allow_constant=True)),  # the left hand and the waist rest
}
SMALL = dict(vision_depth=1, refine_depth=1, dit_depth=1, sample_steps=2,
             draws=1)


@pytest.mark.slow
@pytest.mark.sim
@pytest.mark.parametrize("robot", CASES)
def test_lerobot_folder_walks_the_road(
    tmp_path, make_weights, cheap, capsys, robot):
  make, settings = CASES[robot]
  make(tmp_path / "recorded")
  build.build(str(tmp_path / "recorded"), robot,
              importing.Settings(str(tmp_path / "imported" / "data")))
  data = rlds.Dataset(tmp_path / "imported" / "data")
  source = [data.episode(i) for i in range(len(data))]
  weights = make_weights(episode.instruction for episode in source)
  settings = settings | {"labeler": SMALL | settings["labeler"]}
  road = config(tmp_path / "imported", weights, **settings)
  workdir = tmp_path / "run"
  pipeline.run(road, workdir)

  # Trained: the adapters moved, every clip became a latent, losses are there.
  adapters, _ = checkpoint.load(workdir / "finetune" / "checkpoint")
  assert any(np.any(leaf) for path, leaf in
             jax.tree_util.tree_leaves_with_path(adapters)
             if "lora_b" in jax.tree_util.keystr(path))
  examples = np.load(workdir / "finetune" / "examples.npz")
  assert examples["truth"].shape == (2, 17, 64, 64, 3)
  assert set(examples["captions"]) <= {e.instruction for e in source}
  latents = np.load(
      workdir / "finetune" / "latents_demonstrations_17" / "latent.npy")
  seconds = sum(len(e.video[settings["camera"]]) for e in source) / (
      data.clock.video_hz)
  # Clips of 3.2 s overlap by half: there are about 1 / 1.6 s of them.
  assert 1 <= len(latents) <= seconds / 1.6
  for stage in ("finetune", "labeler"):
    losses = [row["loss"] for row in metrics.read(
        workdir / stage / "history.jsonl") if "loss" in row]
    assert len(losses) == 2

  # Labelled: every control step, in physical units, in the robot's layout.
  labelled = rlds.Dataset(workdir / "labels" / "data")
  assert labelled.embodiment == data.embodiment
  assert labelled.clock == data.clock
  assert labelled.ids == data.ids
  free = np.repeat([key.kind != "position" or key.normalize == "identity"
                    for key in data.embodiment.action],
                   [key.dims for key in data.embodiment.action])
  low = np.min([e.action.min(0) for e in source], 0)
  high = np.max([e.action.max(0) for e in source], 0)
  still = ~free & (low == high)
  assert still.any() == settings["allow_constant"]
  for i, episode in enumerate(source):
    found = labelled.episode(i)
    assert found.action.shape == episode.action.shape
    assert np.isfinite(found.action).all()
    assert np.isfinite(found.spread).all()
    assert found.state is None
    assert found.origin.labeler
    assert found.video[settings["camera"]].shape == (
        episode.video[settings["camera"]].shape)
    # Two steps teach nothing, but units hold: at most a few ranges away.
    away = np.abs(found.action - (low + high) / 2)[:, ~free & ~still]
    assert np.all(away < 5 * (high - low)[~free & ~still])
    np.testing.assert_allclose(
        found.action[:, still], episode.action[:, still], atol=1e-6)

  capsys.readouterr()
  pipeline.run(road, workdir)
  said = capsys.readouterr().out
  assert said.count("finished before, nothing changed") == 3, said
