"""Trials of a policy in a simulator, as a config's section describes them.

Keys: sim, horizon, execute_steps, first_seed, trials, batch_size; what the
simulator's `make` takes besides, in `settings` (the tabletop's robot, scene and
spread may stand beside it); and `execution`, see `execution.Way`.
"""

import functools
from collections.abc import Callable
from typing import Any

from dreamgen_jax import agent as agent_lib
from dreamgen_jax import execution, registry, rollout

OWN = ("robot", "scene", "spread")  # settings that may stand in the section


def attempt(config: Any, verb: str, act: agent_lib.Agent | rollout.Act,
            record: int = 0) -> list[rollout.Trial]:
  """A trial per seed; `record` as of `rollout.rollout`."""
  return rollout.rollout(
      act, _maker(config, verb),
      range(config.first_seed, config.first_seed + config.trials),
      horizon=config.horizon, way=way(config),
      n_obs_steps=act.model.config.n_obs_steps
      if isinstance(act, agent_lib.Agent) else 1,
      batch_size=config.batch_size, record=record)


def way(config: Any) -> execution.Way:
  """How chunks are executed.

  Raises:
    ConfigError: see `execution.Way`.
  """
  return execution.Way(
      config.execute_steps, **dict(config.get("execution") or {}))


def _maker(config: Any, verb: str) -> Callable[[], Any]:
  settings = {name: config[name] for name in OWN if name in config}
  return functools.partial(
      registry.find("sims", config.sim).make, verb, horizon=config.horizon,
      **settings | dict(config.get("settings") or {}))
