"""Whether the labels do the task when a simulator is told them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from dreamgen_jax import types


@dataclasses.dataclass(frozen=True, eq=False)
class Judge:
  """Score 1 where the replay succeeds, else 0.

  Attributes:
    replay: episode -> (success, frames).
  """

  replay: Callable[[types.Episode], tuple[bool, Any]]

  def score(self, episodes: Sequence[types.Episode]) -> list[types.Verdict]:
    """One verdict per episode, in order."""
    return [
        types.Verdict(episode.id, "success", float(self.replay(episode)[0]),
                      "the replay fails") for episode in episodes]
