"""Labelers as stages find them: built from a config, or from a checkpoint."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from dreamgen_jax import (
  annotator,
  checkpoint,
  errors,
  interfaces,
  registry,
  types,
)
from dreamgen_jax.data import dataset, labels
from dreamgen_jax.stages import models

# What a config may say of labelling, beyond what it must; by default as in
# `annotator.Annotator`.
OPTIONAL = ("stride", "state")


def build(spec: Mapping[str, Any], robot: types.Embodiment,
          time_base: labels.TimeBase, cameras: Sequence[str],
          state: bool = False) -> interfaces.Labeler:
  """The labeler of a config's `model` section.

  Its config's action_dim, horizon, views and frames, where it has such fields,
  follow from what is labelled, and state_dim, if states are to be decoded. One
  with released weights (`source`) keeps its action_dim: it pads.

  Raises:
    ConfigError: it cannot decode states, or its actions are too narrow.
  """
  decided = {"action_dim": robot.action_dim, "horizon": time_base.horizon,
             "views": len(cameras), "frames": time_base.gap_frames() + 1}
  if spec.get("source"):
    del decided["action_dim"]
  if state:
    decided["state_dim"] = robot.state_dim
  fields = {field.name for field in dataclasses.fields(
      registry.find("labelers", spec["name"]).Config)}
  if state and "state_dim" not in fields:
    raise errors.ConfigError(
        f"The labeler {spec['name']!r} decodes no states; leave config.state "
        "out.")
  model = models.build("labelers", spec, **{
      name: value for name, value in decided.items() if name in fields})
  room = getattr(model.config, "action_dim", robot.action_dim)
  if room < robot.action_dim:
    raise errors.ConfigError(
        f"The weights of {spec['source']} hold {room} dimensions of action; "
        f"{robot.name} has {robot.action_dim}. Train afresh, or from others.")
  return model


def start(spec: Mapping[str, Any], model: interfaces.Labeler,
          rng: jax.Array) -> interfaces.Params:
  """Parameters to train from: fresh, or those of spec["source"].

  Raises:
    ConfigError: no weights were released for this labeler.
    CheckpointError: the source is missing, or does not fit the model.
  """
  if not spec.get("source"):
    return jax.jit(model.init)(rng)  # half the time of one by one
  module = registry.find("labelers", spec["name"])
  if not hasattr(module, "load"):
    raise errors.ConfigError(
        f"No weights of the labeler {spec['name']!r} were ever released; "
        "leave model.source out.")
  return module.load(spec["source"], model.config)


def load(folder: pathlib.Path, config: Mapping[str, Any]
         ) -> annotator.Annotator:
  """The annotator of a trained labeler.

  Args:
    folder: of `train_labeler` or `train_latent_labeler`.
    config: samples, weights and batch_size, perhaps cameras instead of those
      that it learnt from, and what `OPTIONAL` names.

  Raises:
    CheckpointError: the checkpoint is missing or damaged.
  """
  params, facts = checkpoint.load(folder / "checkpoint")
  digest = checkpoint.digest(params, facts)[:16]
  facts["cameras"] = list(config.get("cameras") or facts["cameras"])
  model = build(
      facts["model"], dataset.embodiment_from_dict(facts["embodiment"]),
      labels.TimeBase.from_dict(facts["time_base"]), facts["cameras"],
      facts.get("state") is not None)
  return annotator.load(
      facts, model, params, samples=config["samples"],
      weights=config["weights"], batch_size=config["batch_size"],
      digest=digest,
      **{name: config[name] for name in OPTIONAL if name in config})
