"""The released names of the inverse dynamics models of GR00T-Dreams.

Hugging Face `seonghyeonye/IDM_{gr1,franka,robocasa,so100}`; one layout.
"""

import os
import pathlib

import jax

from dreamgen_jax import errors, folder, interfaces, weights
from dreamgen_jax.encoders import siglip
from dreamgen_jax.labelers.idm import model
from dreamgen_jax.layers import action_head

_HEAD = "action_head"


def names(config: model.Config) -> list[weights.Rule]:
  """The table for one config; the patch kernel's layout depends on it."""
  tower = f"{_HEAD}.siglip_model"
  rules = siglip.names(
      config.patch, f"{tower}.vision_model", "encoder/vision/")
  rules += [
      weights.Rule(f"{tower}.logit_{{p:scale|bias}}", "encoder/logit_{p}"),
      weights.Rule(f"{_HEAD}.view_embedding.weight", "encoder/views"),
  ]
  rules += weights.dense(f"{_HEAD}.vision_projector", "encoder/vision_out")
  # The places of the projector's layers in its torch sequence.
  for i, first in enumerate((1, 6)):
    layers, ours = f"{_HEAD}.mm_projector.layers", "encoder/projector"
    rules += weights.norm(f"{layers}.{first}", f"{ours}/norm_{i}")
    rules += weights.dense(f"{layers}.{first + 1}", f"{ours}/in_{i}")
    rules += weights.dense(f"{layers}.{first + 3}", f"{ours}/out_{i}")
  for rule in action_head.names(_HEAD):
    part = "encoder" if rule.path.startswith("refine/") else "denoiser"
    rules.append(
        weights.Rule(rule.name, f"{part}/{rule.path}", rule.transform))
  return rules


def load(source: str | os.PathLike, config: model.Config) -> interfaces.Params:
  """Reads a released checkpoint; a head for states, if any, stays fresh.

  Args:
    source: the folder, or its .safetensors file.
    config: the preset that it is of; horizon and views are free.

  Raises:
    CheckpointError: missing, damaged, or not of this preset, as where it has
      other embodiments; lists every tensor without a place and every
      parameter without a tensor.
  """
  fresh = model.Model(config).init
  target = jax.eval_shape(fresh, jax.random.key(0))
  head = target.pop("state", None)
  try:
    params = weights.load(
        folder.open_tensors(pathlib.Path(source)), names(config), target)
  except errors.CheckpointError as error:
    raise errors.CheckpointError(f"{source}: {error}") from error
  if head is not None:
    # Compiled, so that nothing but the head is drawn.
    params["state"] = jax.jit(lambda rng: fresh(rng)["state"])(
        jax.random.key(0))
  return params
