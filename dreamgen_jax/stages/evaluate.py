"""Stage 4b: policies in closed loop in a simulator, on the same seeds.

Every input is a policy checkpoint; "noop" does what the simulator calls
holding still. Chunks are executed as `config.execution` says, a dict(ensemble=,
delay=, inpaint=), see `execution.Way`. Writes `trials.json` (one row per
trial), `table.json` and `table.csv` (rates, and every two policies compared
trial by trial), and videos of `config.videos` successes and failures each.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

from dreamgen_jax import execution, hosts, metrics, registry, rollout
from dreamgen_jax.data import video
from dreamgen_jax.stages import artefact, outcomes, policies


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Runs every policy on every verb; a finished pair is not run again.

  The pairs are divided among hosts.
  """
  sim = registry.find("sims", config.sim)
  way = execution.Way(config.execute_steps, **dict(
      config.get("execution") or {}))
  pairs = [(policy, verb) for policy in ["noop", *inputs]
           for verb in config.verbs]
  mine = pairs[hosts.index()::hosts.count()]
  progress = metrics.Progress(folder.name, len(mine), "task")
  for policy in dict(mine):
    act, n_obs = sim.hold, 1
    if policy in inputs:
      act = policies.load(inputs[policy])
      n_obs = act.model.config.n_obs_steps
    for verb in (verb for name, verb in mine if name == policy):
      done = folder / "trials" / f"{policy}-{verb}.json"
      if not done.exists():
        done.parent.mkdir(parents=True, exist_ok=True)
        trials = rollout.rollout(
            act, maker(config, verb),
            range(config.first_seed, config.first_seed + config.trials),
            horizon=config.horizon, way=way, n_obs_steps=n_obs,
            batch_size=config.batch_size, record=config.videos)
        for i, trial in enumerate(trials):
          if trial.frames is not None:
            (folder / f"{policy}-{verb}-{i}.mp4").write_bytes(
                video.encode(trial.frames, config.video_hz))
        artefact.write_json(done, {"trials": [
            {"policy": policy, "verb": verb, "seed": trial.seed,
             "success": bool(trial.success), "steps": trial.steps,
             "progress": trial.progress, "instruction": trial.instruction}
            for trial in trials]})
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


def maker(config: Any, verb: str) -> Callable[[], Any]:
  """Makes environments of a task: the section's own keys and `settings`."""
  settings = {name: config[name] for name in ("robot", "scene", "spread")
              if name in config} | dict(config.get("settings") or {})
  return functools.partial(
      registry.find("sims", config.sim).make, verb, horizon=config.horizon,
      **settings)
