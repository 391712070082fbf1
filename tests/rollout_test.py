"""Closed-loop evaluation with an environment that can be computed by hand."""

import dataclasses

import jax
import numpy as np
import pytest

from dreamgen_jax import errors, execution, rollout


class Walk:
  """A point on a line; success once it stands at 1 or beyond."""

  made = 0
  open = 0

  def __init__(self):
    Walk.made += 1
    Walk.open += 1

  def reset(self, *, seed):
    self.x, self.start = 0.0, seed
    return self._look(), {"progress": 0.0}

  def step(self, action):
    self.x += float(action[0])
    done = self.x >= 1
    info = {"success": done, "progress": min(max(self.x, 0.0), 1.0)}
    return self._look(), float(done), done, False, info

  def close(self):
    Walk.open -= 1

  def _look(self):
    return {
        "image_front": np.full((4, 4, 3), int(self.x * 100) % 256, np.uint8),
        "state": np.array([self.x, self.start], np.float64),
        "language": f"walk from {self.start}",
    }


@pytest.fixture(autouse=True)
def count():
  Walk.made = Walk.open = 0
  yield
  assert Walk.open == 0


def constant(step, length=4):
  def act(observation, keys):
    del keys
    return np.full((len(observation["state"]), length, 1), step)
  return act


def run(act, seeds, **kw):
  settings = {"horizon": 20, "n_obs_steps": 2, "batch_size": 3}
  way = {"execute_steps": 3} | {
      field.name: kw.pop(field.name)
      for field in dataclasses.fields(execution.Way) if field.name in kw}
  return rollout.rollout(
      act, Walk, seeds, way=execution.Way(**way), **(settings | kw))


def test_trials_come_in_order_with_their_outcome():
  trials = run(constant(0.25), [7, 3, 5, 4])
  assert [trial.seed for trial in trials] == [7, 3, 5, 4]
  assert all(trial.success and trial.steps == 4 for trial in trials)
  assert [trial.progress for trial in trials] == [1.0] * 4
  assert trials[1].instruction == "walk from 3"
  assert Walk.made == 3


def test_horizon_stops_a_trial_and_progress_is_the_best():
  (trial,) = run(constant(0.04), [0], horizon=10)
  assert (trial.success, trial.steps) == (False, 10)
  assert trial.progress == pytest.approx(0.4)

  (trial,) = run(constant(-0.04), [0], horizon=5)
  assert trial.progress == 0.0


def test_every_call_has_one_shape_and_the_right_history():
  seen = []

  def act(observation, keys):
    seen.append((observation, keys))
    return constant(0.1)(observation, keys)

  run(act, [1, 2, 3, 4], horizon=6)
  assert len(seen) == 4  # two waves of two plans
  for observation, keys in seen:
    assert observation["image/front"].shape == (3, 2, 4, 4, 3)
    assert observation["image/front"].dtype == np.uint8
    assert observation["state"].dtype == np.float32
    assert observation["state_mask"].all()
    assert len(observation["instruction"]) == 3
    assert keys.shape == (3,)
  # At first the only observation, twice; later the last two.
  np.testing.assert_allclose(seen[0][0]["state"][:, :, 0], 0)
  np.testing.assert_allclose(seen[1][0]["state"][:, :, 0], [[0.2, 0.3]] * 3)
  np.testing.assert_allclose(seen[2][0]["state"][:, 1, 1], 4)  # padded rows


def test_only_execute_steps_of_a_chunk_are_executed():
  def act(observation, keys):
    del keys
    chunk = np.full((len(observation["state"]), 4, 1), 0.1)
    chunk[:, 3:] = 100
    return chunk

  (trial,) = run(act, [0], horizon=6)
  assert trial.progress == pytest.approx(0.6)
  (trial,) = run(act, [0], horizon=6, execute_steps=4)
  assert trial.success


def noisy(observation, keys):
  del observation
  return np.asarray(
      jax.vmap(lambda key: jax.random.uniform(key, (4, 1)))(keys)) * 0.2


def test_noise_depends_on_seed_and_step_but_not_on_the_batch():
  seeds = [11, 12, 13, 14, 15]

  def outcome(trials):
    return {trial.seed: (trial.steps, trial.frames.tobytes())
            for trial in trials}

  many = outcome(run(noisy, seeds, record=5, batch_size=4))
  one = outcome(run(noisy, seeds[::-1], record=5, batch_size=1))
  assert many == one
  assert len(set(many.values())) > 1
  other = outcome(run(noisy, seeds, record=5, noise_seed=1))
  assert other != many


def test_records_the_first_trials_of_each_outcome():
  trials = run(constant(0.1), [5, 6, 7], record=2, horizon=5)
  assert trials[0].frames.shape == (6, 4, 4, 3)
  np.testing.assert_array_equal(
      trials[1].frames[:, 0, 0, 0], [0, 10, 20, 30, 40, 50])
  assert trials[2].frames is None

  def odd_seeds_arrive(observation, keys):
    del keys
    odd = observation["state"][:, -1, 1] % 2
    return np.tile(odd[:, None, None], (1, 4, 1))

  trials = run(odd_seeds_arrive, [2, 4, 1, 6, 3], record=1)
  assert [trial.success for trial in trials] == [False, False, True, False,
                                                 True]
  assert [trial.frames is not None for trial in trials] == [
      True, False, True, False, False]


def test_a_delayed_plan_takes_over_from_the_one_before():
  starts, seen = [], []

  def act(observation, keys):
    del keys
    starts.append(observation["state"][0, -1, 0])
    seen.append(observation.get("kept"))
    return np.full((len(observation["state"]), 4, 1), 10.0 ** -len(starts))

  (trial,) = run(act, [0], execute_steps=2, delay=1, inpaint=True, horizon=6,
                 batch_size=1)
  # 0.1 0.1 | 0.1 0.01 | 0.01 0.001
  np.testing.assert_allclose(starts, [0, 0.2, 0.31], atol=1e-6)
  assert trial.progress == pytest.approx(0.321)
  assert seen[0] == [None]
  actions, share = seen[1][0]
  np.testing.assert_allclose(actions, [[0.1], [0.1]])
  assert share[0] == 1 and 0 <= share[1] < 1


def test_no_seeds_no_trials():
  assert run(constant(0.1), []) == []


def test_mistakes():
  with pytest.raises(errors.ConfigError, match="plans only 2 steps"):
    run(constant(0.1, length=2), [0])
  with pytest.raises(errors.ConfigError, match="delay = 2, but"):
    run(constant(0.1), [0], delay=2)
  with pytest.raises(errors.UserError, match="seed 9 at step 0"):
    run(constant(np.nan), [9])
