"""World models as planners, as a section of a config describes them."""

import pathlib
from collections.abc import Mapping
from typing import Any

from dreamgen_jax import planner
from dreamgen_jax.data import views
from dreamgen_jax.stages import labelers, world_model


def inputs(sections: Mapping[str, Any]) -> set[str]:
  """Names of the inputs that planners are made of."""
  return {section[part] for section in sections.values()
          for part in ("world_model", "labeler")}


def load(section: Any, paths: Mapping[str, pathlib.Path]) -> planner.Planner:
  """The planner of a section.

  Args:
    section: world_model and labeler, names of inputs: what `finetune` and
      `train_labeler` wrote; camera; and what `world_model.make_dreamer` and
      `labelers.load` read.
    paths: input -> its folder.
  """
  tuned = world_model.load_tuned(
      paths[section.world_model], section.get("adapters", ()))
  return planner.Planner(
      world_model.make_dreamer(tuned, section),
      labelers.load(paths[section.labeler], section),
      views.View.of(section.camera))
