"""Stage 4b: policies in closed loop in a simulator, on the same seeds.

Every input is a policy checkpoint, but for those of which `config.planners`
(name -> section, see `planners`) makes planners that dream ahead; "noop" does
what the simulator calls holding still. `trials` tells the section's keys, among
them `execution`, a dict(ensemble=, delay=, inpaint=) that says how chunks are
executed. Writes `trials.json` (one row per trial), `table.json` and `table.csv`
(rates, and every two policies compared trial by trial), and videos of
`config.videos` successes and failures each.
"""

import pathlib
from typing import Any

from dreamgen_jax import hosts, metrics, registry
from dreamgen_jax.data import video
from dreamgen_jax.stages import (
    artefact,
    outcomes,
    planners,
    policies,
    trials,
)


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Runs every policy on every verb; a finished pair is not run again.

  The pairs are divided among hosts.
  """
  sim = registry.find("sims", config.sim)
  trials.way(config)  # mistakes show before anything is loaded
  plans = dict(config.get("planners") or {})
  trained = [name for name in inputs if name not in planners.inputs(plans)]
  pairs = [(policy, verb) for policy in ["noop", *trained, *plans]
           for verb in config.verbs]
  mine = pairs[hosts.index()::hosts.count()]
  progress = metrics.Progress(folder.name, len(mine), "task")
  for policy in dict(mine):
    act: Any
    if policy in plans:
      act = planners.load(plans[policy], inputs)
    else:
      act = policies.load(inputs[policy]) if policy in inputs else sim.hold
    for verb in (verb for name, verb in mine if name == policy):
      done = folder / "trials" / f"{policy}-{verb}.json"
      if not done.exists():
        done.parent.mkdir(parents=True, exist_ok=True)
        found = trials.attempt(config, verb, act, config.videos)
        for i, trial in enumerate(found):
          if trial.frames is not None:
            clip = folder / f"{policy}-{verb}-{i}.mp4"
            clip.parent.mkdir(exist_ok=True)  # a task may be "suite/number"
            clip.write_bytes(video.encode(trial.frames, config.video_hz))
        artefact.write_json(done, {"trials": [
            {"policy": policy, "verb": verb, "seed": trial.seed,
             "success": bool(trial.success), "steps": trial.steps,
             "progress": trial.progress, "instruction": trial.instruction}
            for trial in found]})
      progress.advance()
  hosts.barrier()
  rows = [row for pair in pairs for row in artefact.read_json(
      folder / "trials" / f"{'-'.join(pair)}.json")["trials"]]
  table = outcomes.summarize(rows, list(config.verbs), list(config.novel))
  comparisons = outcomes.compare(rows)
  if hosts.first():
    artefact.write_json(folder / "trials.json", {"trials": rows})
    outcomes.write(folder, table, comparisons)
  for policy, line in table.items():
    shown = "  ".join(f"{name} {cell['successes']}/{cell['trials']}"
                      for name, cell in line.items())
    hosts.say(f"[{folder.name}] {policy:8} {shown}")
  return {"table": table, "comparisons": comparisons}
