"""Stage: judges neural trajectories; the bad ones are marked, none is deleted.

Reads labelled `trajectories` and writes the same episodes, byte by byte, with
every judge's score, whether they are kept, and why not; training reads kept
ones only. `config.judges` is as in `stages.judges`. Judges may need more
inputs: `reference`, recordings whose range and deviation of actions are the
unit (default: the trajectories'), and `labeler`; or `config.sim`, where the
episodes start in a simulator.
"""

import collections
import dataclasses
import pathlib
from typing import Any

import numpy as np

from dreamgen_jax import errors, metrics
from dreamgen_jax.data import normalize, rlds
from dreamgen_jax.stages import judges, labelers, simulated

ALONE = True  # one host does it


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Scores all, then decides."""
  source = rlds.Dataset(inputs["trajectories"] / "data")
  rules = {name: dict(spec) for name, spec in config.judges.items()}
  verdicts = {}
  for name, rule in rules.items():
    judge = judges.build(rule, _tools(config, inputs, source))
    cameras = [judge.camera] if hasattr(judge, "camera") else []
    progress = metrics.Progress(f"{folder.name}: {name}", len(source),
                                "episode")
    verdicts[name] = []
    for i in range(len(source)):
      (verdict,) = judge.score([source.episode(i, cameras)])
      verdicts[name].append(dataclasses.replace(verdict, judge=name))
      progress.advance()
  before = source.index["kept"]
  reasons, table = judges.decide(verdicts, rules, before.tolist())
  kept = before & np.array([not reason for reason in reasons])
  if not kept.any():
    raise errors.DataError(
        f"The judges reject all {len(source)} episodes of {source.path}; the "
        f"first for: {reasons[int(np.argmax(before))]}.")
  origins = {}
  for i, name in enumerate(source.ids):
    old = source.episode(i, ()).origin
    origins[name] = dataclasses.replace(
        old, kept=bool(kept[i]), reason=reasons[i] or old.reason,
        scores=old.scores | {judge: found[i].score
                             for judge, found in verdicts.items()})
  made = rlds.copy(folder / "data", folder.name, source, origins,
                   num_shards=min(config.shards, len(source)))
  print(f"[{folder.name}] keeps {kept.sum()} of {len(source)} episodes",
        flush=True)
  return {
      "episodes": len(source), "kept": int(kept.sum()), "digest": made.digest,
      "judges": {name: table[name] | _spread(verdicts[name]) for name in table},
      "rejected": dict(collections.Counter(
          " and ".join(part.split(" ")[0] for part in reason.split("; "))
          for reason in reasons if reason))}


def _tools(config, inputs, source):
  """What a judge may ask for, by the name of its field."""

  def statistics():
    reference = source
    if "reference" in inputs:
      reference = rlds.Dataset(inputs["reference"] / "data")
    return normalize.compute(reference)["action"]

  def replay():
    if not config.get("sim"):
      raise errors.ConfigError(
          f"Episodes of {source.embodiment.name} start in no simulator that "
          "this config names; set config.sim, or leave out judges that replay.")
    return simulated.replay(config.sim)

  def relabel():
    if "labeler" not in inputs:
      raise errors.ConfigError(
          "A cycle needs the labeler: give the stage an input of that name.")
    labeler = labelers.load(inputs["labeler"], {
        "samples": 1, "weights": "uniform", "batch_size": 16})
    return lambda episode: next(labeler.label([episode]))

  return {"statistics": statistics, "replay": replay, "relabel": relabel}


def _spread(verdicts):
  """The scores' quartiles."""
  scores = [each.score for each in verdicts]
  return {"quartiles": [
      round(float(q), 4) for q in np.nanquantile(scores, (0.25, 0.5, 0.75))]}
