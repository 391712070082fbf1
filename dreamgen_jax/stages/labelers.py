"""Labelers as stages find them: built from a config for what they label."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dreamgen_jax import errors, interfaces, registry, types
from dreamgen_jax.data import labels
from dreamgen_jax.stages import models


def build(spec: Mapping[str, Any], robot: types.Embodiment,
          time_base: labels.TimeBase, cameras: Sequence[str],
          state: bool = False) -> interfaces.Labeler:
  """The labeler of a config's `model` section.

  Its config's action_dim, horizon, views and frames, where it has such fields,
  follow from what is labelled, and state_dim, if states are to be decoded.

  Raises:
    ConfigError: it cannot decode states.
  """
  decided = {"action_dim": robot.action_dim, "horizon": time_base.horizon,
             "views": len(cameras), "frames": time_base.gap_frames() + 1}
  if state:
    decided["state_dim"] = robot.state_dim
  fields = {field.name for field in dataclasses.fields(
      registry.find("labelers", spec["name"]).Config)}
  if state and "state_dim" not in fields:
    raise errors.ConfigError(
        f"The labeler {spec['name']!r} decodes no states; leave config.state "
        "out.")
  return models.build("labelers", spec, **{
      name: value for name, value in decided.items() if name in fields})
