"""Policies as stages find them: built from a config, or from a checkpoint."""

import dataclasses
import pathlib
from typing import Any

import jax

from dreamgen_jax import agent as agent_lib
from dreamgen_jax import checkpoint, interfaces, registry
from dreamgen_jax.data import normalize
from dreamgen_jax.stages import language, models


def load(folder: pathlib.Path) -> agent_lib.Agent:
  """The agent of a policy checkpoint.

  Raises:
    CheckpointError: the checkpoint is missing or damaged.
  """
  params, facts = checkpoint.load(folder / "checkpoint")
  robot = registry.find("embodiments", facts["embodiment"]).EMBODIMENT
  words = language.load(facts["text"])
  return agent_lib.Agent(
      model=build(facts["model"], robot, facts["cameras"], words),
      params=params, language=words, embodiment=robot.id,
      action=normalize.Normalizer.from_json(facts["action"]),
      state=facts["state"] and normalize.Normalizer.from_json(facts["state"]))


def build(spec: Any, robot: Any, cameras: Any,
          words: agent_lib.Language) -> Any:
  """The policy of a config's `model` section for a robot."""
  decided = {"action_dim": robot.action_dim, "state_dim": robot.state_dim,
             "cameras": tuple(cameras)}
  fields = dataclasses.fields(registry.find("policies", spec["name"]).Config)
  if "text_dim" in (field.name for field in fields):
    decided["text_dim"] = words.text_dim
  return models.build("policies", spec, **decided)


def start(spec: Any, model: interfaces.Policy,
          rng: jax.Array) -> interfaces.Params:
  """Parameters to train from: fresh, or those of the folder spec["source"].

  Raises:
    CheckpointError: the folder is missing, or does not fit the model.
  """
  if not spec.get("source"):
    return model.init(rng)
  return registry.find("policies", spec["name"]).load(
      spec["source"], model.config)
