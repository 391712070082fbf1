"""The world model as planner: dream what comes, label it, execute, dream anew.

UniPi (arXiv 2302.00111) plans with the two parts that DreamGen makes data with:
the video is dreamed from what is seen now, and inverse dynamics says which
actions lead along it. It acts like any policy, but for the time a dream takes.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from dreamgen_jax import annotator as annotator_lib
from dreamgen_jax import dreamer as dreamer_lib
from dreamgen_jax import errors, types
from dreamgen_jax.data import views


@dataclasses.dataclass(frozen=True, eq=False)
class Planner:
  """A world model and a labeler as a policy; see `rollout.rollout`.

  Attributes:
    dreamer: makes the videos.
    annotator: labels them; its actions are the robot's.
    view: the cameras that the world model dreams.

  Raises:
    ConfigError: labels are not at the robot's rate of control, or the labeler
      reads cameras that are not dreamed.
  """

  dreamer: dreamer_lib.Dreamer
  annotator: annotator_lib.Annotator
  view: views.View

  def __post_init__(self):
    robot, base = self.annotator.embodiment, self.annotator.time_base
    if base.control_hz != robot.clock.control_hz:
      raise errors.ConfigError(
          f"The labeler's actions come at {base.control_hz:g} Hz, and "
          f"{robot.name} is controlled at {robot.clock.control_hz:g} Hz: "
          "plans cannot be executed step by step.")
    missing = set(self.annotator.cameras) - set(self.view.named)
    if missing:
      raise errors.ConfigError(
          f"The labeler reads {', '.join(sorted(missing))}; dreamed are "
          f"{', '.join(self.view.named)}.")

  def __call__(self, observation: dict[str, Any],
               keys: jax.Array) -> np.ndarray:
    """Plans f32[b,u,a] in the robot's units, from the current step on."""
    c = self.dreamer.model.config
    instructions = observation["instruction"]
    now = [{camera: observation[f"image/{camera}"][row, -1:]
            for camera in self.view.named}
           for row in range(len(instructions))]
    frames = np.concatenate([
        self.view.compose(pictures, (c.height, c.width))
        for pictures in now])  # b h w 3
    seeds = np.asarray(jax.vmap(jax.random.bits)(keys)).astype(np.int64)
    videos = self.dreamer.dream(
        frames, [self.view.prompt(words) for words in instructions],
        seeds.tolist())
    robot = self.annotator.embodiment
    episodes = [types.Episode(
        id=f"plan_{row}", video=self.view.split(video), instruction=words,
        embodiment=robot.name,
        clock=types.Clock(c.video_hz, robot.clock.control_hz),
        origin=types.Origin("dream", seed=int(seed)))
        for row, (video, words, seed) in enumerate(
            zip(videos, instructions, seeds, strict=True))]
    return np.stack([
        episode.action for episode in self.annotator.label(episodes)])
