"""The released names of GR00T N1 (Hugging Face `nvidia/GR00T-N1-2B`)."""

from collections.abc import Mapping
from typing import Any

from dreamgen_jax import weights
from dreamgen_jax.layers import action_head
from dreamgen_jax.policies.groot_n1 import backbone, model


def names(config: model.Config) -> list[weights.Rule]:
  """The table for one config; the patch kernel's layout depends on it."""
  return [
      *backbone.names(config.backbone.vision.patch, path="backbone/"),
      *action_head.names(path="head/"),
  ]


def without_leftover(tensors: Mapping[str, Any],
                     config: model.Config) -> dict[str, Any]:
  """Leaves out what the release holds and its published code does not build.

  That is one linear layer from the context's width to 2, of a segmentation
  head; it is known by its shape, and by having no place in the table.
  """
  table = names(config)
  shapes = (2, config.backbone.width), (2,)
  spare = [name for name, tensor in tensors.items()
           if tuple(tensor.shape) in shapes
           and not weights.locate(name, table)]
  layers = {name.rpartition(".")[0] for name in spare}
  if len(layers) > 1:  # then it is something else, and is told as such
    return dict(tensors)
  return {name: tensor for name, tensor in tensors.items()
          if name not in spare}
