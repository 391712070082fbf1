"""Whether the labeler says the same of what its labels do."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dreamgen_jax import types
from dreamgen_jax.data import doubt, normalize


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
  """Labels -> simulator -> video -> labels again: score 1 / (1 + r).

  r is the mean difference of both labels, see `doubt.relative`.

  Attributes:
    replay: episode -> (success, frames u8[n,h,w,3] at its control rate).
    relabel: episode -> the same with labels of its video.
    statistics: of actions; their deviation is the unit.
    camera: the one that the simulator shows and the labeler reads.
  """

  replay: Callable[[types.Episode], tuple[bool, Any]]
  relabel: Callable[[types.Episode], types.Episode]
  statistics: normalize.Statistics
  camera: str = "front"

  def score(self, episodes: Sequence[types.Episode]) -> list[types.Verdict]:
    """One verdict per episode, in order."""
    return [self._one(episode) for episode in episodes]

  def _one(self, episode):
    _, shown = self.replay(episode)
    again = self.relabel(dataclasses.replace(
        episode, video={self.camera: shown}, clock=types.Clock(
            episode.clock.control_hz, episode.clock.control_hz)))
    length = min(len(again.action), len(episode.action))
    apart = np.abs(again.action[:length] - episode.action[:length])
    known = np.isfinite(apart).all(axis=1)
    way = float(doubt.relative(apart[known], self.statistics.std).mean())
    return types.Verdict(
        episode.id, "cycle", 1 / (1 + way),
        f"labels of the replay are {way:.2g} deviations away")
