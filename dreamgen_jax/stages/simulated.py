"""Episodes run again in the simulator that they started in."""

import importlib
from collections.abc import Callable

import numpy as np

from dreamgen_jax import errors, registry, types

Replay = Callable[[types.Episode], tuple[bool, np.ndarray]]


def replay(sim: str, image_size: int = 64) -> Replay:
  """The replay of a simulator: episode -> (success, frames u8[n,h,w,3]).

  Actions are executed from the episode's own reset; the last is not, as no
  frame follows it.

  Raises:
    ConfigError: unknown simulator.
  """
  registry.find("sims", sim)
  module = importlib.import_module(f"dreamgen_jax.sims.{sim}.collect")

  def run(episode: types.Episode) -> tuple[bool, np.ndarray]:
    facts = episode.facts
    missing = [name for name in ("robot", "verb", "scene", "spread")
               if name not in facts]
    if missing or episode.action is None:
      raise errors.DataError(
          f"Episode {episode.id!r} cannot be replayed in {sim}: it has no "
          f"{missing[0] if missing else 'action'}.")
    return module.replay(
        facts["robot"], facts["verb"], facts["scene"], episode.origin.seed,
        episode.action[:-1], spread=facts["spread"], image_size=image_size)

  return run
