"""Whether actions stay where recorded ones are."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dreamgen_jax import types
from dreamgen_jax.data import normalize


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
  """Score: the share of labelled steps within the range of recorded actions.

  Attributes:
    statistics: of actions that the robot can do.
    margin: by how much of the range one may be outside.
  """

  statistics: normalize.Statistics
  margin: float = 0.05

  def score(self, episodes: Sequence[types.Episode]) -> list[types.Verdict]:
    """One verdict per episode, in order; 0 where no step has a label."""
    return [self._one(episode) for episode in episodes]

  def _one(self, episode):
    low, high = self.statistics.min, self.statistics.max
    room = self.margin * (high - low) + 1e-6
    action = np.zeros((0, len(low))) if episode.action is None else (
        episode.action[np.isfinite(episode.action).all(axis=1)])
    inside = (action >= low - room) & (action <= high + room)
    share = float(inside.all(axis=1).mean()) if len(inside) else 0.0
    return types.Verdict(
        episode.id, "limits", share, f"{1 - share:.0%} of steps are outside")
