"""Labelers as stages find them: built from a config for what they label."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dreamgen_jax import interfaces, registry, types
from dreamgen_jax.data import labels
from dreamgen_jax.stages import models


def build(spec: Mapping[str, Any], robot: types.Embodiment,
          time_base: labels.TimeBase,
          cameras: Sequence[str]) -> interfaces.Labeler:
  """The labeler of a config's `model` section.

  Its config's action_dim, horizon and views, where it has such fields, follow
  from what is labelled.
  """
  decided = {"action_dim": robot.action_dim, "horizon": time_base.horizon,
             "views": len(cameras)}
  fields = {field.name for field in dataclasses.fields(
      registry.find("labelers", spec["name"]).Config)}
  return models.build("labelers", spec, **{
      name: value for name, value in decided.items() if name in fields})
