"""Clips of several frame counts: which there can be, and whose they are."""

import dataclasses

import numpy as np
import pytest

from configs import common
from dreamgen_jax import errors, registry, types
from dreamgen_jax.data import rlds
from dreamgen_jax.stages import latents, pipeline
from dreamgen_jax.world_models import wan

ROBOT = registry.find("embodiments", "tabletop_panda").EMBODIMENT
LENGTHS = (5, 16, 17, 40, 33)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  path = tmp_path_factory.mktemp("data") / "data"
  rlds.write(path, "lengths", [types.Episode(
      id=f"e{count}", instruction="push", embodiment=ROBOT.name,
      video={"front": np.zeros((count, 16, 16, 3), np.uint8)},
      clock=ROBOT.clock, origin=types.Origin("sim")) for count in LENGTHS],
      ROBOT, cameras=["front"])
  return path


def test_an_episode_is_cut_into_the_longest_clips_that_it_fills(data):
  model = wan.Model(wan.PRESETS["nano"])
  found = latents.buckets(data, model, "front", (17, 33, 9))
  by_count = {sized.config.frames: {clips[i]["id"] for i in range(len(clips))}
              for sized, clips in found}
  assert by_count == {33: {"e40", "e33"}, 17: {"e17"}, 9: {"e16"}}
  for sized, clips in found:
    count = sized.config.frames
    assert clips[0]["video"].shape == (count, 64, 64, 3)
    assert sized.config == dataclasses.replace(model.config, frames=count)
  # Counts without an episode are not there; no clip at all is an error.
  assert len(latents.buckets(data, model, "front", (41, 33))) == 1
  with pytest.raises(errors.DataError, match="no clip of 41 frames"):
    latents.buckets(data, model, "front", (45, 41))


def test_frame_counts_are_checked_before_anything_runs():
  section = common.section(
      frame_buckets=(17, 18), model=dict(name="wan", preset="nano", kw={}))
  with pytest.raises(errors.ConfigError, match="18 frames .* has no latent"):
    pipeline.resolve(pipeline.Step("finetune", "finetune", section, {}))
  section.frame_buckets = (17, 33)
  sizes = pipeline.resolve(
      pipeline.Step("finetune", "finetune", section, {}))["model"]["sizes"]
  assert sizes["frames"] == 17
