"""How sure the labeler was of its labels."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from dreamgen_jax import errors, types
from dreamgen_jax.data import doubt, normalize


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
  """Score 1 / (1 + r): r is the doubt of the worst steps, see `doubt.relative`.

  Attributes:
    statistics: of actions; their deviation is the unit of doubt.
    of: "spread" (over noise samples and windows) or "disagreement" (between
      overlapping windows only).
    quantile: of an episode's steps; 1 is the worst step.
  """

  statistics: normalize.Statistics
  of: str = "spread"
  quantile: float = 0.9

  def __post_init__(self):
    if self.of not in ("spread", "disagreement") or not 0 <= self.quantile <= 1:
      raise errors.ConfigError(
          f"Certainty is of spread or disagreement, at a quantile in [0, 1]; "
          f"got of={self.of!r}, quantile={self.quantile}.")

  def score(self, episodes: Sequence[types.Episode]) -> list[types.Verdict]:
    """One verdict per episode, in order.

    Raises:
      DataError: an episode that nobody labelled.
    """
    return [self._one(episode) for episode in episodes]

  def _one(self, episode):
    values = getattr(episode, self.of)
    if values is None:
      raise errors.DataError(
          f"Episode {episode.id!r} has no {self.of}; only labels have one.")
    steps = doubt.relative(values, self.statistics.std)
    worst = float(np.quantile(steps, self.quantile))
    return types.Verdict(
        episode.id, "certainty", 1 / (1 + worst),
        f"{self.of} {worst:.2g} of the actions' deviation")
