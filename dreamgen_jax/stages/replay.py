"""Stage: are labels good enough to act on? Replays them in the simulator.

Reads labelled episodes and the recorded ones they were made from; compares
actions, then executes the labels from the recorded episode's own reset.
"""

import importlib
import pathlib
from typing import Any

import numpy as np

from dreamgen_jax import agreement, errors, statistics
from dreamgen_jax.data import rlds

ALONE = True  # one host does it


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Agreement of labels with truth, and success of their replay."""
  labelled = rlds.Dataset(inputs["labels"] / "data")
  truth = rlds.Dataset(inputs["truth"] / "data")
  sim = importlib.import_module(f"dreamgen_jax.sims.{config.sim}.collect")
  pairs = []
  for i, name in enumerate(labelled.ids):
    pairs.append((truth.episode(truth.position(name), ()),
                  labelled.episode(i, ())))
  if any(real.action.shape != found.action.shape for real, found in pairs):
    raise errors.DataError(
        "Labels and recordings differ in length; replay needs labels of whole "
        "recorded episodes at their own control rate.")
  outcome = {"labels": [], "recorded": []}
  for real, found in pairs:
    where = (real.facts["robot"], real.facts["verb"], real.facts["scene"],
             real.origin.seed)
    for name, actions in (("labels", found.action),
                          ("recorded", real.action)):
      # The last action of an episode was never run when it was recorded.
      outcome[name].append(sim.replay(
          *where, actions[:-1], spread=real.facts["spread"])[0])
  recorded = np.concatenate([real.action for real, _ in pairs])
  decoded = np.concatenate([found.action for _, found in pairs])
  np.savez_compressed(
      folder / "actions.npz", truth=recorded, labels=decoded,
      spread=np.concatenate([found.spread for _, found in pairs]),
      lengths=[len(real.action) for real, _ in pairs])
  result = agreement.agreement(
      recorded, decoded, labelled.embodiment.action)
  for name, successes in outcome.items():
    low, high = statistics.wilson(sum(successes), len(successes))
    result[f"replay_{name}"] = {
        "successes": int(sum(successes)), "trials": len(successes),
        "low": low, "high": high}
  return result
