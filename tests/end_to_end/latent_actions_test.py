"""Latent actions: from videos alone to a policy, every stage at its smallest.
"""

import jax
import numpy as np
import pytest

from dreamgen_jax import checkpoint, errors, metrics
from dreamgen_jax.data import rlds
from dreamgen_jax.stages import pipeline, policies

STAGES = ("labeler", "neural", "policy")
KW = dict(width=16, heads=2, head_width=8, spatial_depth=1, looks=((5, 100),))


@pytest.mark.slow
@pytest.mark.sim
def test_road(tmp_path, make_weights, recorded, road, cheap, capsys):
  videos = rlds.Dataset(recorded / "data")
  source = [videos.episode(i) for i in range(len(videos))]
  weights = make_weights(episode.instruction for episode in source)
  tiny = {
      "scale": 0.001, "labeler.train.steps": 12, "labeler.train.batch_size": 4,
      "labeler.train.log_steps": 4, "labeler.train.eval_steps": 6,
      "labeler.evaluate_pairs": 8, "labeler.batch_size": 4,
      "policy.train.steps": 2, "policy.train.batch_size": 4,
      "policy.text.source": weights, "neural.inputs.videos": recorded,
      "policy.model.kw.widths": (16,), "policy.model.kw.inference_steps": 2,
      "policy.model.kw.vision": dict(
          widths=(16,), blocks=(1,), strides=(1,)),
      **{f"labeler.inputs.{name}": recorded
         for name in ("others", "panda", "heldout")},
      **{f"labeler.model.kw.{name}": value for name, value in KW.items()}}
  config = road("latent_actions.py", STAGES, tiny)
  workdir = tmp_path / "run"
  pipeline.run(config, workdir)

  # It said how it uses its codes, in each slot, as training went and at last.
  rows = metrics.read(workdir / "labeler" / "history.jsonl")
  assert [row["step"] for row in rows if "loss" in row] == [4, 8, 12]
  for row in rows:
    assert {f"{what}/slot_{slot}" for what in ("dead", "perplexity")
            for slot in range(4)} <= row.keys()
    assert 1 <= row["perplexity"] <= 8
  assert [row["step"] for row in rows if "psnr_other" in row] == [6, 12]
  _, facts = checkpoint.load(workdir / "labeler" / "checkpoint")
  assert facts["whole"] and facts["time_base"]["gap_seconds"] == 1.0

  # Labels: latents where a second is left, nothing after that, no state.
  neural = rlds.Dataset(workdir / "neural" / "data")
  assert neural.embodiment.name == "latent" and neural.ids == videos.ids
  (key,) = neural.embodiment.action
  assert (key.name, key.dims, key.kind) == ("latent", 32, "position")
  for i in range(len(neural)):
    found = neural.episode(i)
    assert found.action.shape == (17, 32)
    np.testing.assert_array_equal(
        np.isfinite(found.action).all(1), np.arange(17) < 12)
    assert np.ptp(found.action[:12], axis=0).min() > 0
    assert found.state is None and found.origin.labeler
    assert found.embodiment == "latent"
    assert not found.spread.any()  # latents are certain

  # A policy that predicts them.
  agent = policies.load(workdir / "policy")
  chunk = agent({
      "image/front": np.zeros((1, 1, 64, 64, 3), np.uint8),
      "state": np.zeros((1, 1, 1), np.float32),
      "state_mask": np.zeros((1, 1), bool),
      "instruction": [source[0].instruction],
  }, jax.random.split(jax.random.key(0), 1))
  assert chunk.shape[::2] == (1, 32) and np.isfinite(chunk).all()

  capsys.readouterr()
  pipeline.run(config, workdir)
  assert "starts" not in capsys.readouterr().out

  # Another run starts where this one ended; without steps it only measures.
  again = road("latent_actions.py", STAGES,
               tiny | {"labeler.train.steps": 0})
  with again.unlocked():
    again.labeler.inputs.start = str(workdir / "labeler")
  pipeline.run(again, tmp_path / "again", "labeler")
  both = [checkpoint.load(tmp_path / name / "labeler" / "checkpoint")[0]
          for name in ("run", "again")]
  jax.tree.map(np.testing.assert_array_equal, *both)

  for change, match in (
      (dict(weights=dict(pandas=1.0)), "'pandas', which is no input.*'panda'"),
      (dict(camera="wrist", weights={}), "no camera 'wrist', only front"),
      (dict(camera=dict(panda="front")), "nothing of the input 'others'"),
      (dict(camera="front", time_base=dict(gap_seconds=4.0, video_hz=5.0)),
       "no pair of frames 4 s apart"),
      (dict(time_base=dict(gap_seconds=0.5, video_hz=5.0)), "2.5 frames"),
  ):
    with again.unlocked():
      for name, value in change.items():
        del again.labeler[name]
        again.labeler[name] = value
    with pytest.raises(errors.UserError, match=match):
      pipeline.run(again, tmp_path / "wrong", "labeler")
