"""Stage: are labels good enough to act on? Replays them in the simulator.

Reads labelled episodes, which are executed from their own resets: those of
recordings, with the input `truth` to compare them with, or of dreams. Where
some were rejected by a filter, both groups are counted.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from dreamgen_jax import agreement, errors, statistics
from dreamgen_jax.data import rlds
from dreamgen_jax.stages import simulated

ALONE = True  # one host does it


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Success of the replay, and agreement of labels with truth."""
  labelled = rlds.Dataset(inputs["labels"] / "data")
  replay = simulated.replay(config.sim)
  found = [labelled.episode(i, ()) for i in range(len(labelled))]
  success = np.array([replay(episode)[0] for episode in found])
  result = {"replay_labels": _rate(success)}
  kept = labelled.index["kept"]
  if not kept.all():
    result |= {"replay_kept": _rate(success[kept]),
               "replay_rejected": _rate(success[~kept])}
  if "truth" not in inputs:
    return result
  truth = rlds.Dataset(inputs["truth"] / "data")
  real = [truth.episode(truth.position(name), ()) for name in labelled.ids]
  if any(a.action.shape != b.action.shape
         for a, b in zip(real, found, strict=True)):
    raise errors.DataError(
        "Labels and recordings differ in length; replay needs labels of whole "
        "recorded episodes at their own control rate.")
  recorded, decoded, spread = (
      np.concatenate([getattr(episode, name) for episode in episodes])
      for episodes, name in (
          (real, "action"), (found, "action"), (found, "spread")))
  np.savez_compressed(
      folder / "actions.npz", truth=recorded, labels=decoded, spread=spread,
      lengths=[len(episode.action) for episode in real])
  result["replay_recorded"] = _rate(np.array([
      replay(dataclasses.replace(a, action=b.action))[0]
      for a, b in zip(found, real, strict=True)]))
  return result | agreement.agreement(
      recorded, decoded, labelled.embodiment.action)


def _rate(success: np.ndarray) -> dict[str, Any]:
  low, high = statistics.wilson(int(success.sum()), len(success))
  return {"successes": int(success.sum()), "trials": len(success),
          "low": low, "high": high}
