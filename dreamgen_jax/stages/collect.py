"""Stage: a simulator's scripted experts (or only its resets) -> episodes.

Writes an RLDS dataset of demonstrations; or of the robot wandering about by
itself; or of prompts: one-frame episodes that say what to do. Episode ids are
a function of the config alone. `config.settings` goes to the simulator's
collector as it is: the tabletop's cameras, and the wobble of demonstrations.
"""

import concurrent.futures
import dataclasses
import functools
import importlib
import multiprocessing
import pathlib
from collections.abc import Sequence
from typing import Any

from dreamgen_jax import errors, hosts, metrics, registry, types
from dreamgen_jax.data import rlds
from dreamgen_jax.stages import artefact

WHAT = ("demonstrations", "wander", "prompts")


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Collects `config.episodes` episodes over robots x verbs x scenes."""
  del inputs
  if config.what not in WHAT:
    raise errors.ConfigError(
        f"what = {config.what!r}; have: {', '.join(WHAT)}.")
  registry.find("sims", config.sim)
  settings = dict(config.get("settings") or {})
  layout = _layout(config, settings.get("cameras"))
  work = {}
  for i, (robot, verb, scene, paraphrase) in enumerate(_turns(config)):
    seed = config.first_seed + i
    work[f"{robot}-{verb}-{scene}-{seed:07d}"] = dict(
        sim=config.sim, what=config.what, robot=robot, verb=verb, scene=scene,
        seed=seed, length=config.length, image_size=config.image_size,
        randomize_looks=config.randomize_looks, spread=config.spread,
        paraphrase=paraphrase, settings=settings)
  with concurrent.futures.ProcessPoolExecutor(
      config.workers, multiprocessing.get_context("spawn")) as pool:
    def make_many(ids):
      progress = metrics.Progress(folder.name, len(ids), "episode")
      specs = [work[name] | {"name": name} for name in ids]
      for episode in pool.map(_collect, specs, chunksize=8):
        progress.advance()
        yield episode

    dataset = rlds.write(
        folder / "data", folder.name, list(work), layout,
        num_shards=min(config.shards, len(work)), make_many=make_many,
        digest=artefact.canonical(config.to_dict()), **hosts.team())
  return {"episodes": len(dataset), "asked": len(work),
          "digest": dataset.digest}


def _turns(config: Any) -> list[tuple[str, str, str, int]]:
  """(robot, verb, scene, paraphrase) of each episode, in turn.

  The paraphrase changes when every robot has done every verb, or a verb would
  be told by one sentence for ever.
  """
  count = (len(config.robots), len(config.verbs), len(config.scenes))
  turns = []
  for i in range(config.episodes):
    i, robot = divmod(i, count[0])
    i, verb = divmod(i, count[1])
    turns.append((config.robots[robot], config.verbs[verb],
                  config.scenes[(i * 7 + verb + robot) % count[2]],
                  i % config.paraphrases))
  return turns


def _layout(config: Any, cameras: Sequence[str] | None) -> types.Embodiment:
  robots = [registry.find("embodiments", f"{config.sim}_{robot}").EMBODIMENT
            for robot in config.robots]
  if any((robot.action, robot.state) != (robots[0].action, robots[0].state)
         for robot in robots):
    raise errors.ConfigError(
        f"The robots {list(config.robots)} differ in state or action; collect "
        "one dataset for each.")
  if cameras is None:
    return robots[0]
  return dataclasses.replace(
      robots[0], cameras={name: name for name in cameras})


@functools.cache
def _module(sim: str) -> Any:
  return importlib.import_module(f"dreamgen_jax.sims.{sim}.collect")


def _collect(spec: dict[str, Any]) -> types.Episode | None:
  """One episode, in a worker; None when the expert failed."""
  spec = dict(spec)
  spec |= spec.pop("settings")
  module, what = _module(spec.pop("sim")), spec.pop("what")
  name, length = spec.pop("name"), spec.pop("length")
  if what == "prompts":
    prompt = module.start_prompt(**spec)
    return types.Episode(
        id=name, instruction=prompt.instruction, clock=prompt.clock,
        video={key: frame[None] for key, frame in prompt.frames.items()},
        embodiment=prompt.embodiment, origin=prompt.origin,
        facts=prompt.facts)
  if what == "wander":
    del spec["paraphrase"]
    return dataclasses.replace(module.wander(**spec, length=length), id=name)
  episode = module.collect(**spec, length=length)
  return dataclasses.replace(episode, id=name) if episode.success else None
