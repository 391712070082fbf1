"""Whether a simulator that is told the labels shows what the video shows."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from dreamgen_jax import errors, types
from dreamgen_jax.data import images


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
  """Score 1 - (error of the replay) / (error of a still picture), at least 0.

  Errors are mean squared, over the frames behind the first, at the video's
  size. A video in which nothing happens scores 0: there is nothing to confirm.

  Attributes:
    replay: episode -> (success, frames u8[n,h,w,3] at its control rate).
    camera: the one that the simulator shows.
  """

  replay: Callable[[types.Episode], tuple[bool, np.ndarray]]
  camera: str = "front"

  def score(self, episodes: Sequence[types.Episode]) -> list[types.Verdict]:
    """One verdict per episode, in order.

    Raises:
      DataError: an episode has another length than its replay.
    """
    return [self._one(episode) for episode in episodes]

  def _one(self, episode):
    video = episode.video[self.camera]
    success, shown = self.replay(episode)
    ratio = episode.clock.steps_per_frame
    at = np.floor(np.arange(len(video)) * ratio + 0.5).astype(int)
    if at[-1] >= len(shown):
      raise errors.DataError(
          f"The replay of episode {episode.id!r} ends before its video.")
    shown = images.resize(shown[at], *video.shape[1:3]).astype(np.float64)
    error = np.mean((shown - video)[1:] ** 2)
    still = np.mean((video[:1] - video.astype(np.float64))[1:] ** 2)
    score = max(0.0, 1 - error / still) if still > 0 else 0.0
    return types.Verdict(
        episode.id, "forward", float(score),
        f"the replay, which {'succeeds' if success else 'fails'}, shows "
        "something else")
