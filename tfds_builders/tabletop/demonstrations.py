"""Which demonstrations a tabletop dataset consists of, and how one is made."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from dreamgen_jax import errors, types


def plan(robot: str, verbs: Sequence[str], scenes: Sequence[str],
         episodes: int, first_seed: int = 0) -> dict[str, dict[str, Any]]:
  """Episode id -> arguments of `collect`; verbs and scenes take turns.

  Raises:
    ConfigError: no verb, no scene or no episode.
  """
  if not (verbs and scenes and episodes > 0):
    raise errors.ConfigError(
        "A tabletop dataset needs at least one verb, one scene and one "
        f"episode, not {list(verbs)}, {list(scenes)} and {episodes}."
    )
  made = {}
  for i in range(episodes):
    turn, verb = divmod(i, len(verbs))
    spec = {"robot": robot, "verb": verbs[verb],
            "scene": scenes[(turn + verb) % len(scenes)],
            "seed": first_seed + i}
    name = "-".join([robot, spec["verb"], spec["scene"]])
    made[f"{name}-{spec['seed']:07d}"] = spec
  return made


def make(name: str, spec: dict[str, Any], **kw) -> types.Episode | None:
  """One demonstration, None where the scripted expert failed."""
  from dreamgen_jax.sims.tabletop import collect  # needs MuJoCo

  episode = collect.collect(**spec, **kw)
  return dataclasses.replace(episode, id=name) if episode.success else None


def choices() -> tuple[list[str], list[str]]:
  """(all verbs, all scenes)."""
  from dreamgen_jax.sims.tabletop import scenes, tasks  # needs MuJoCo

  return list(tasks.TASKS), list(scenes.SCENES)
