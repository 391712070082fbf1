"""Is a policy in training any good? Asked of held-out data and a simulator.

The loss, or any error of actions, foretells success badly: a policy whose error
still rises may act ever better. So the best parameters are those that succeed
most, then those that get furthest, and only then those of the least error.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from dreamgen_jax import agent as agent_lib
from dreamgen_jax import checkpoint, hosts, interfaces
from dreamgen_jax.stages import trials

BEST = "best"  # folder of a checkpoint


class Validation:
  """What `train.fit` calls at checkpoints; keeps the best parameters.

  The best are on disk too, so that a training that goes on knows them.
  """

  def __init__(self, config: Any, agent: agent_lib.Agent,
               samples: Sequence[dict[str, Any]], folder: pathlib.Path):
    """Either part may be left out.

    Args:
      config: verbs and what `trials` reads; without `sim` no trial is run.
      agent: with whatever parameters.
      samples: held-out ones, as batches hold them; may be none.
      folder: where the best are kept.
    """
    self._config, self._agent = config, agent
    self._samples = {name: np.stack([sample[name] for sample in samples])
                     for name in samples[0]} if samples else {}
    self._folder = folder / BEST
    self._score: tuple[float, ...] | None = None
    if self._folder.exists():
      self._score = tuple(checkpoint.load(self._folder)[1]["score"])

  def __call__(self, params: interfaces.Params,
               step: int) -> dict[str, float]:
    """Named scalars of these parameters."""
    with hosts.locally(params) as own:
      found = self._measure(dataclasses.replace(self._agent, params=own))
    score = (found.get("heldout_success", 0.0),
             found.get("heldout_progress", 0.0),
             -found.get("heldout_error", 0.0))
    if self._score is None or score > self._score:
      self._score = score
      checkpoint.save(self._folder, params, {"score": score, "step": step})
    return found

  def _measure(self, agent: agent_lib.Agent) -> dict[str, float]:
    found: dict[str, float] = {}
    if self._samples:
      found["heldout_error"] = open_loop(agent, self._samples)
    if self._config.get("sim"):
      rows = [trial for verb in self._config.verbs
              for trial in trials.attempt(self._config, verb, agent)]
      for name in ("success", "progress"):
        found[f"heldout_{name}"] = float(np.mean(
            [getattr(trial, name) for trial in rows]))
    return found

  def best(self) -> tuple[interfaces.Params, int]:
    """(the best parameters, their step)."""
    params, facts = checkpoint.load(self._folder)
    return params, facts["step"]


def open_loop(agent: agent_lib.Agent, samples: interfaces.Batch) -> float:
  """Root mean square of planned minus recorded actions, normalised.

  Args:
    agent: the policy.
    samples: a training batch; the noise of each is always the same.
  """
  hidden = ("action", "mask", "weight")
  count = len(samples["action"])
  chunk = np.asarray(agent.plan(jax.random.split(jax.random.key(0), count), {
      name: leaf for name, leaf in samples.items() if name not in hidden}))
  start = samples["action"].shape[1] - chunk.shape[1]  # past steps
  error = np.square(chunk - samples["action"][:, start:])
  mask = samples["mask"][:, start:]
  return float(np.sqrt(error[mask].mean()))


def spread(source: Sequence[dict[str, Any]],
           count: int) -> list[dict[str, Any]]:
  """Up to `count` samples, spread over all there are."""
  rows = np.linspace(0, len(source) - 1, min(count, len(source)))
  return [source[int(row)] for row in rows]
