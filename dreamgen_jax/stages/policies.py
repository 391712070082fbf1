"""Policies as stages find them: built from a config, or from a checkpoint."""

import pathlib
from typing import Any

from dreamgen_jax import agent as agent_lib
from dreamgen_jax import checkpoint, registry
from dreamgen_jax.data import normalize
from dreamgen_jax.stages import language, models


def load(folder: pathlib.Path) -> agent_lib.Agent:
  """The agent of a policy checkpoint.

  Raises:
    CheckpointError: the checkpoint is missing or damaged.
  """
  params, facts = checkpoint.load(folder / "checkpoint")
  robot = registry.find("embodiments", facts["embodiment"]).EMBODIMENT
  sentences = language.sentences(facts["text"])
  return agent_lib.Agent(
      model=build(facts["model"], robot, facts["cameras"], sentences),
      params=params, sentences=sentences,
      action=normalize.Normalizer.from_json(facts["action"]),
      state=facts["state"] and normalize.Normalizer.from_json(facts["state"]))


def build(spec: Any, robot: Any, cameras: Any,
          sentences: agent_lib.Sentences) -> Any:
  """The policy of a config's `model` section for a robot."""
  return models.build(
      "policies", spec, action_dim=robot.action_dim,
      state_dim=robot.state_dim, cameras=tuple(cameras),
      text_dim=sentences([""]).shape[1])
