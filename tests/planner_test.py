"""A world model and a labeler act together; both are stand-ins."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from dreamgen_jax import errors, planner, registry
from dreamgen_jax import types as records
from dreamgen_jax.data import labels, views

ROBOT = registry.find("embodiments", "tabletop_panda").EMBODIMENT


class Dreamer:
  """Dreams three frames, ever brighter; remembers what it was asked."""

  model = types.SimpleNamespace(config=types.SimpleNamespace(
      height=8, width=8, video_hz=5.0))

  def dream(self, frames, prompts, seeds):
    self.asked = frames, prompts, seeds
    return np.stack([frames + i for i in range(3)], axis=1)


class Annotator:
  """Says what is seen in each frame."""

  embodiment, cameras = ROBOT, ("front",)
  time_base = labels.TimeBase(
      control_hz=5.0, video_hz=5.0, horizon=1, gap_seconds=0.2)

  def label(self, episodes):
    for episode in episodes:
      assert episode.clock == records.Clock(5.0, 5.0)
      seen = episode.video["front"].mean(axis=(1, 2, 3))
      yield dataclasses.replace(
          episode, action=np.repeat(seen[:, None], 5, axis=1))


def test_plans_begin_at_what_is_seen_now():
  made = planner.Planner(Dreamer(), Annotator(), views.View.of("front"))
  past = np.full((2, 1, 16, 16, 3), 99, np.uint8)
  now = np.stack([np.full((1, 16, 16, 3), shade, np.uint8)
                  for shade in (10, 20)])
  keys = jax.random.split(jax.random.key(0), 2)
  plans = made({"image/front": np.concatenate([past, now], axis=1),
                "instruction": ["push", "pull"]}, keys)
  np.testing.assert_allclose(plans[:, :, 0], [[10, 11, 12], [20, 21, 22]])
  frames, prompts, seeds = made.dreamer.asked
  assert frames.shape == (2, 8, 8, 3)
  assert prompts == ["push", "pull"] and len(set(seeds)) == 2


def test_mistakes():
  slow = Annotator()
  slow.time_base = dataclasses.replace(slow.time_base, control_hz=10.0)
  with pytest.raises(errors.ConfigError, match="controlled at 5 Hz"):
    planner.Planner(Dreamer(), slow, views.View.of("front"))
  with pytest.raises(errors.ConfigError, match="reads front; dreamed are left"):
    planner.Planner(Dreamer(), Annotator(), views.View.of("left"))
