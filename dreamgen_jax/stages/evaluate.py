"""Stage 4b: policies in closed loop in a simulator, on the same seeds.

Every input is a policy checkpoint; "noop" holds still where it starts. Writes
`trials.json` (one row per trial) and videos of the first trials.
"""

import functools
import importlib
import pathlib
from typing import Any

import jax
import numpy as np

from dreamgen_jax import hosts, metrics, registry, rollout, statistics
from dreamgen_jax.data import video
from dreamgen_jax.stages import artefact, policies


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Runs every policy on every verb; a finished pair is not run again.

  The pairs are divided among hosts.
  """
  registry.find("sims", config.sim)
  sim = importlib.import_module(f"dreamgen_jax.sims.{config.sim}.environment")
  pairs = [(policy, verb) for policy in ["noop", *inputs]
           for verb in config.verbs]
  mine = pairs[hosts.index()::hosts.count()]
  progress = metrics.Progress(folder.name, len(mine), "task")
  for policy in dict(mine):
    act, n_obs = hold, 1
    if policy in inputs:
      act = policies.load(inputs[policy])
      n_obs = act.model.config.n_obs_steps
    for verb in (verb for name, verb in mine if name == policy):
      done = folder / "trials" / f"{policy}-{verb}.json"
      if not done.exists():
        done.parent.mkdir(parents=True, exist_ok=True)
        trials = rollout.rollout(
            act, functools.partial(
                sim.TabletopEnv, config.robot, verb, config.scene,
                horizon=config.horizon, spread=config.spread),
            range(config.first_seed, config.first_seed + config.trials),
            horizon=config.horizon, execute_steps=config.execute_steps,
            n_obs_steps=n_obs, batch_size=config.batch_size,
            record=config.videos)
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
  if hosts.first():
    artefact.write_json(folder / "trials.json", {"trials": rows})
  table = summarize(rows, list(config.verbs), list(config.novel))
  for policy, line in table.items():
    shown = "  ".join(f"{name} {cell['successes']}/{cell['trials']}"
                      for name, cell in line.items())
    hosts.say(f"[{folder.name}] {policy:8} {shown}")
  return {"table": table}


def hold(observation: dict[str, Any], keys: jax.Array) -> np.ndarray:
  """The no-op: stay at the pose first seen, with the gripper open."""
  del keys
  pose = observation["state"][:, -1].copy()  # b s
  pose[:, -1] = 0.0  # the last state is an opening, the last action a closing
  return np.repeat(pose[:, None], 64, axis=1)


def summarize(rows: list[dict[str, Any]], verbs: list[str],
              novel: list[str]) -> dict[str, dict[str, Any]]:
  """policy -> verb (and "novel", "all") -> successes, trials, interval."""
  groups = {verb: [verb] for verb in verbs} | {"novel": novel, "all": verbs}
  table: dict[str, dict[str, Any]] = {}
  for policy in dict.fromkeys(row["policy"] for row in rows):
    for name, members in groups.items():
      found = [row for row in rows
               if row["policy"] == policy and row["verb"] in members]
      if found:
        successes = sum(row["success"] for row in found)
        low, high = statistics.wilson(successes, len(found))
        table.setdefault(policy, {})[name] = {
            "successes": successes, "trials": len(found), "low": low,
            "high": high,
            "progress": float(np.mean([row["progress"] for row in found]))}
  return table
