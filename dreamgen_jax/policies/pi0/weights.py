"""openpi's checkpoints of pi0 and pi0.5, in and out.

  <folder>/params   Orbax, one tree under "params"
  <folder>/assets   statistics of the robots; not read here

Blocks lie stacked in it, as ours; they are matched one by one, so that what a
tensor joins (keys and values, the two halves of a gated layer) comes apart.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from dreamgen_jax import errors, interfaces, paths, weights
from dreamgen_jax.encoders import gemma, siglip
from dreamgen_jax.policies.pi0 import model

_IMG, _LLM = "PaliGemma/img", "PaliGemma/llm"
# Where blocks are stacked along the first axis.
_STACKS = (f"{_IMG}/Transformer/encoderblock/", f"{_LLM}/layers/")


def load(source: str | os.PathLike, config: model.Config,
         dtype: Any = None) -> interfaces.Params:
  """Reads a released policy, or one that openpi trained.

  Args:
    source: the folder that has `params`, or `params` itself.
    config: the preset that it is of.
    dtype: of the parameters; None is float32.

  Raises:
    CheckpointError: missing, damaged, or of another model.
  """
  place = pathlib.Path(source).absolute()
  place = place / "params" if (place / "params").is_dir() else place
  if not place.is_dir():
    raise errors.CheckpointError(f"No checkpoint of pi0 at {place}.")
  try:
    with ocp.PyTreeCheckpointer() as reader:
      saved = reader.metadata(place).item_metadata.tree
      tree = reader.restore(place, ocp.args.PyTreeRestore(
          item=saved, restore_args=jax.tree.map(
              lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)))
  except Exception as error:  # Orbax raises many kinds
    raise errors.CheckpointError(
        f"{place} is not an Orbax checkpoint ({type(error).__name__}: "
        f"{str(error).splitlines()[0] if str(error) else ''}).") from error
  target = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype or leaf.dtype),
      jax.eval_shape(model.Model(config).init, jax.random.key(0)))
  try:
    return weights.load(
        unstack(paths.flatten(tree.get("params", tree))), names(config),
        target)
  except errors.CheckpointError as error:
    raise errors.CheckpointError(f"{place}: {error}") from error


def save(folder: str | os.PathLike, params: interfaces.Params,
         config: model.Config) -> None:
  """Writes `params` in a new folder, as openpi has it."""
  tree = paths.unflatten(stack(weights.export(
      jax.tree.map(np.asarray, params), names(config))))
  with ocp.PyTreeCheckpointer() as writer:
    writer.save(pathlib.Path(folder).absolute() / "params", {"params": tree})


def unstack(tensors: Mapping[str, Any]) -> dict[str, Any]:
  """Released names -> tensors of one block each, with its number in the name.

  What openpi's own training saves has "value" at the end of every name.
  """
  found = {}
  for name, tensor in tensors.items():
    name = name.removesuffix("/value")
    home = next((home for home in _STACKS if name.startswith(home)), None)
    if home is None:
      found[name] = tensor
    else:
      found |= {f"{home}{i}/{name.removeprefix(home)}": layer
                for i, layer in enumerate(tensor)}
  return found


def stack(tensors: Mapping[str, Any]) -> dict[str, Any]:
  """The inverse of `unstack`."""
  found: dict[str, Any] = {}
  for name, tensor in tensors.items():
    home = next((home for home in _STACKS if name.startswith(home)), None)
    if home is None:
      found[name] = np.asarray(tensor)
    else:
      number, rest = name.removeprefix(home).split("/", 1)
      found.setdefault(home + rest, {})[int(number)] = np.asarray(tensor)
  return {name: np.stack([layers[i] for i in range(len(layers))])
          if isinstance(layers, dict) else layers
          for name, layers in found.items()}


def names(config: model.Config) -> weights.Table:
  """The released names, as `unstack` gives them."""
  mix, released = (("time", "time_mlp") if config.expert.adaptive
                   else ("mix", "action_time_mlp"))
  rules = _vision(config.vision)
  rules += _dense(f"{_IMG}/head", "images/head")
  rules.append(weights.Rule(f"{_LLM}/embedder/input_embedding",
                            "words/token/embedding"))
  rules += _expert(config.language, "", "language")
  rules += _expert(config.expert, "_1", "action")
  for theirs, ours in (
      ("action_in_proj", "suffix/action"),
      ("state_proj", "suffix/state"),
      (f"{released}_in", f"suffix/{mix}_in"),
      (f"{released}_out", f"suffix/{mix}_out"),
      ("action_out_proj", "out"),
  ):
    rules += _dense(theirs, ours)
  return rules


def _dense(theirs: str, ours: str) -> list[weights.Rule]:
  return [weights.Rule(f"{theirs}/{leaf}", f"{ours}/{leaf}")
          for leaf in ("kernel", "bias")]


def _vision(c: siglip.Config) -> list[weights.Rule]:
  """SigLIP as big_vision has it."""
  ours, theirs = "images/tower", f"{_IMG}/Transformer"
  block = f"{theirs}/encoderblock/{{i}}"
  attention = f"{block}/MultiHeadDotProductAttention_0"
  heads = (c.heads, c.width // c.heads)
  flat = (c.patch * c.patch * 3, c.width)
  rules = [
      weights.Rule(f"{_IMG}/embedding/kernel", f"{ours}/patch/kernel",
                   weights.reshape(flat, (c.patch, c.patch, 3, c.width))),
      weights.Rule(f"{_IMG}/embedding/bias", f"{ours}/patch/bias"),
      weights.Rule(f"{_IMG}/pos_embedding", f"{ours}/positions",
                   weights.squeeze()),
      weights.Rule(f"{attention}/out/kernel", f"{ours}/blocks/o/kernel",
                   weights.reshape((-1, c.width), (*heads, c.width))),
      weights.Rule(f"{attention}/out/bias", f"{ours}/blocks/o/bias"),
  ]
  for part, name in (("query", "q"), ("key", "k"), ("value", "v")):
    rules += [
        weights.Rule(f"{attention}/{part}/kernel",
                     f"{ours}/blocks/{name}/kernel",
                     weights.reshape((c.width, -1), (c.width, *heads))),
        weights.Rule(f"{attention}/{part}/bias", f"{ours}/blocks/{name}/bias",
                     weights.reshape((-1,), heads)),
    ]
  for part, name in (
      (f"{block}/LayerNorm_0", "blocks/attention_norm"),
      (f"{block}/LayerNorm_1", "blocks/mlp_norm"),
      (f"{theirs}/encoder_norm", "norm"),
  ):
    rules += [weights.Rule(f"{part}/{leaf}", f"{ours}/{name}/{leaf}")
              for leaf in ("scale", "bias")]
  for part, name in (("Dense_0", "in"), ("Dense_1", "out")):
    rules += _dense(f"{block}/MlpBlock_0/{part}", f"{ours}/blocks/mlp/{name}")
  return rules


def _expert(c: gemma.Config, mark: str, name: str) -> list[weights.Rule]:
  """One Gemma; `mark` ends its parts' released names."""
  block = f"{_LLM}/layers/{{i}}"
  before, after = (f"experts/blocks/{name}_{part}"
                   for part in ("before", "after"))
  rules = [
      weights.Rule(f"{block}/attn/q_einsum{mark}/w", f"{before}/q/kernel",
                   _heads(c.heads)),
      *(weights.Rule(f"{block}/attn/kv_einsum{mark}/w",
                     f"{before}/{part}/kernel", _heads(c.kv_heads, (1,)),
                     pieces=(i,), of=2) for i, part in enumerate("kv")),
      weights.Rule(f"{block}/attn/attn_vec_einsum{mark}/w",
                   f"{after}/o/kernel",
                   weights.reshape((-1, c.width),
                                   (c.heads, c.head_dim, c.width))),
      *(weights.Rule(f"{block}/mlp{mark}/gating_einsum",
                     f"{after}/ffn_{part}/kernel", weights.squeeze(),
                     pieces=(i,), of=2)
        for i, part in enumerate(("gate", "up"))),
      weights.Rule(f"{block}/mlp{mark}/linear", f"{after}/ffn_out/kernel"),
  ]
  for theirs, ours in (
      (f"{block}/pre_attention_norm{mark}", f"{before}/norm"),
      (f"{block}/pre_ffw_norm{mark}", f"{after}/norm"),
      (f"{_LLM}/final_norm{mark}", f"experts/{name}_norm"),
  ):
    rules += (_dense(f"{theirs}/Dense_0", f"{ours}/modulation") if c.adaptive
              else [weights.Rule(f"{theirs}/scale", f"{ours}/scale")])
  return rules


def _heads(count: int, lead: tuple[int, ...] = ()) -> weights.Transform:
  """(*lead, heads, in, head dim) -> (in, heads * head dim)."""

  def load(x):
    x = x.reshape(count, *x.shape[-2:])
    return x.transpose(1, 0, 2).reshape(x.shape[1], -1)

  def export(x):
    x = x.reshape(len(x), count, -1).transpose(1, 0, 2)
    return x.reshape(*lead, *x.shape)

  return weights.Transform(f"{count} heads behind each other", load, export)
