"""Real and neural trajectories as embodiments of their own, through the stages.
"""

import dataclasses

import jax
import numpy as np
import pytest

from configs import common
from dreamgen_jax import errors, metrics, types
from dreamgen_jax.data import rlds
from dreamgen_jax.embodiments import tabletop_panda, tabletop_so100
from dreamgen_jax.encoders import tokenizer
from dreamgen_jax.policies import groot_n1
from dreamgen_jax.stages import policies, train_policy
from tests import drawn

ROBOT = tabletop_panda.EMBODIMENT
ROW = 6  # of neural trajectories


def _episode(number, kind):
  rng = np.random.default_rng(number)
  known = kind == "sim"
  action = rng.uniform(-1, 1, (5, 5)).astype(np.float32)
  action[:, 4] = action[:, 4] > 0
  return types.Episode(
      id=f"{kind}_{number}",
      video={"front": rng.integers(0, 256, (5, 64, 64, 3), np.uint8)},
      instruction="push the block", embodiment=ROBOT.name, clock=ROBOT.clock,
      origin=types.Origin(kind),
      state=rng.uniform(-1, 1, (5, 5)).astype(np.float32) if known else None,
      action=action)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  """Folders of recorded and of neural trajectories, and a tokenizer."""
  home = tmp_path_factory.mktemp("data")
  for name, kind in (("real", "sim"), ("neural", "dream"),
                     ("heldout", "sim")):
    rlds.write(home / name / "data", name,
               [_episode(number, kind) for number in range(2)], ROBOT)
  tokenizer.train(["push the block"], 20).save(str(home / "tokenizer.json"))
  return home


def _config(data, **changes):
  tiny = dict(
      backbone=dict(vision=dict(width=16, depth=1, heads=2, mlp_width=16),
                    language=dict(width=16, heads=2, kv_heads=2, head_dim=8,
                                  ffn=16, layers=1), width=16),
      head=dict(width=16, heads=2, depth=2, hidden=16),
      jitter=(0, 0, 0, 0), horizon=4, sample_steps=2, draws=1)
  return common.section(
      cameras=("front",), text=dict(tokenizer=str(data / "tokenizer.json")),
      model=dict(name="groot_n1", preset="nano", kw=tiny),
      train=common.train(
          1, 2, common.optim(1e-3, 0, weight_decay=0.0)), **changes)


def _run(data, folder, *names, **changes):
  inputs = {name: data / name for name in names}
  return train_policy.run(_config(data, **changes), inputs, folder)


def test_a_step_of_training_and_a_chunk(data, tmp_path, monkeypatch):
  rng, start = np.random.default_rng(0), {}

  def begin(unused_spec, model, *unused):  # nothing is compiled
    start.update(drawn.params(model, seed=rng))
    return dict(start)

  monkeypatch.setattr(policies, "start", begin)
  result = _run(data, tmp_path, "neural", "real", "heldout",
                embodiment_ids=dict(neural=ROW),
                validation=common.section(heldout="heldout", samples=2))
  assert np.isfinite(result["loss"])
  assert result["windows"].keys() == {"neural", "real"}
  assert result["best_step"] == 1
  (error,) = [row["heldout_error"] for row in metrics.read(
      tmp_path / "history.jsonl") if "heldout_error" in row]
  assert 0 < error < 10
  agent = policies.load(tmp_path)
  assert agent.embodiment == ROBOT.id
  assert agent.state is not None
  # Both rows have moved, and none else.
  for name in ("state_encoder", "action_encoder", "action_decoder"):
    moved = jax.tree.map(
        lambda old, new: set(np.flatnonzero(
            np.abs(old - new).max(tuple(range(1, old.ndim)))).tolist()),
        start["head"][name], agent.params["head"][name])
    assert moved["out"]["bias"] == {ROBOT.id, ROW}
    for part in moved.values():
      assert part["kernel"] <= {ROBOT.id, ROW}
  seen = _episode(5, "sim")
  observation = {
      "image/front": seen.video["front"][:2, None],
      "state": seen.state[:2, None], "state_mask": np.ones((2, 1), bool),
      "instruction": ["push the block"] * 2}
  keys = jax.random.split(jax.random.key(0), 2)
  chunk = agent(observation, keys)
  assert chunk.shape == (2, 4, 5)
  assert np.isfinite(chunk).all()
  other = dataclasses.replace(agent, embodiment=ROW)(observation, keys)
  assert not np.allclose(chunk, other)


def test_neural_trajectories_alone_act_with_their_own_row():
  assert policies.acting(ROBOT, dict(neural=ROW)) == ROW
  assert policies.acting(ROBOT, dict(neural=ROW, real=ROBOT.id)) == ROBOT.id


@pytest.mark.parametrize("ids,message", [
    (dict(neural=8), "neural has the embodiment id 8, but .* 8 embodiments"),
    (dict(neutral=6), "names 'neutral', .* Did you mean 'neural'?"),
    (dict(neural=6, real=7), "several others were chosen, 6, 7: whose"),
])
def test_mistakes_are_told_at_the_start(data, tmp_path, ids, message):
  with pytest.raises(errors.ConfigError, match=message):
    _run(data, tmp_path, "neural", "real", embodiment_ids=ids)
  assert not list(tmp_path.iterdir())


def test_policies_without_embodiments_say_so(data, tmp_path):
  from dreamgen_jax.policies import diffusion_policy

  model = diffusion_policy.Model(diffusion_policy.PRESETS["nano"])
  with pytest.raises(errors.ConfigError, match="no weights per embodiment"):
    policies.embodiments(model, {"neural": ROBOT.id}, dict(neural=6))
  assert policies.embodiments(model, {"neural": ROBOT.id}, {}) == {
      "neural": ROBOT.id}


def test_other_arms_in_the_robots_row_leave_it_to_the_robot():
  model = groot_n1.Model(groot_n1.PRESETS["nano"])
  other = tabletop_so100.EMBODIMENT
  found = policies.embodiments(
      model, {"others": other.id, "real": ROBOT.id}, {"others": ROBOT.id})
  # The first input's robot is the other one.
  assert policies.acting(other, found) == ROBOT.id != other.id
