"""Adapter files as they are shared, of every family of world models.

  diffusers  transformer.blocks.0.attn1.to_q.lora_A.weight; alpha is in the
             header, and is the rank where the header has none. Several
             transformers share a file: transformer_2. ...
  original   net.blocks.0.self_attn.q_proj.lora_A.default.weight: the authors'
             names as PEFT puts them; alpha is the rank (what else it was is
             multiplied into B). Such a file may hold the base, too, which is
             left out.
  comfyui    diffusion_model.blocks.0.self_attn.q.lora_A.weight, and .alpha
  musubi     lora_unet_blocks_0_self_attn_q.lora_down.weight, and .alpha

The tables follow from those of the transformer's own tensors. Prefixes that
trainers leave out or put in front ("base_model.model.") are read as well. What
a file holds beside low-rank pairs (bias or whole-weight deltas of some
distilled models) has no place in `lora` and is refused by name.
"""

import dataclasses
import functools
import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from dreamgen_jax import (
    errors,
    folder,
    interfaces,
    lora,
    paths,
    safetensors,
    weights,
)

_HEADER = "lora_adapter_metadata"
_PEFT = "adapter_config.json"
_BEFORE = re.compile(
    r"(?:base_model\.model\.|pipe\.dit\.)?"
    r"(?:(transformer(?:_2)?)\.|diffusion_model\.|net\.|lora_unet_)?(.+)")
_SIDE = re.compile(r"\.lora[._](A|down|B|up)(?:\.\w+)?\.weight$")
_SIDES = {"A": "lora_A", "down": "lora_A", "B": "lora_B", "up": "lora_B"}

Tables = Mapping[str, weights.Table]
Tuned = dict[str, tuple[interfaces.Params, lora.Config]]


@dataclasses.dataclass(frozen=True)
class Dialect:
  """How a file names a layer.

  Attributes:
    layout: of the layer's name: diffusers', the authors' own ("original"), or
      that with "_" for "." ("flat").
    form: name of A and B: of {expert}, {layer} and {side}.
    sides: what A and B are called.
    alpha: where it lies: in the "header", "beside" each layer, or nowhere.
  """

  layout: str
  form: str
  sides: tuple[str, str] = ("lora_A", "lora_B")
  alpha: str = ""


DIALECTS = {
    "diffusers": Dialect(
        "diffusers", "{expert}.{layer}.{side}.weight", alpha="header"),
    "original": Dialect("original", "net.{layer}.{side}.default.weight"),
    "comfyui": Dialect(
        "original", "diffusion_model.{layer}.{side}.weight", alpha="beside"),
    "musubi": Dialect("flat", "lora_unet_{layer}.{side}.weight",
                      ("lora_down", "lora_up"), alpha="beside"),
}


@dataclasses.dataclass(frozen=True)
class Formats:
  """Reads and writes the adapter files of one family.

  Attributes:
    family: of the models that they are for.
    dialects: those that are in use for it; the first is the usual one.
  """

  family: folder.Family
  dialects: Sequence[str] = ("diffusers",)

  def read(self, path: str | os.PathLike, config: Any,
           expert: str | None = None) -> Tuned:
    """Reads adapters from a file of any dialect.

    Args:
      path: a safetensors or torch file, or a folder that PEFT wrote.
      config: the preset of the model that they are for.
      expert: the transformer that they are for, where the model has several
        and the file does not say, or says another.

    Returns:
      expert -> (adapters, config). Where layers differ in rank or strength,
      the strength is multiplied into B, and config.alpha equals config.rank.

    Raises:
      ConfigError: the expert is not said, or unknown.
      CheckpointError: unknown dialect, or tensors that do not fit; listed.
    """
    path = pathlib.Path(path)
    shapes, found = _shapes(self.family.model(config)), {}
    try:
      tensors, metadata = _open(path)
      parts = _by_expert(tensors)
      if expert and len(parts) > 1:
        raise errors.ConfigError(
            f"{path} says itself which tensors are for which transformer; "
            "leave expert= out.")
      for said, part in parts.items():
        name = _expert(expert or said, config.experts, path)
        found[name] = parse(part, metadata, shapes[name],
                            self._names(config, name))
    except errors.CheckpointError as error:
      if str(path) in str(error):
        raise
      raise errors.CheckpointError(
          f"The adapter {path} does not fit {self.family.name} of this "
          f"preset: {error}") from error
    return found

  def write(self, path: str | os.PathLike,
            adapters: Mapping[str, interfaces.Params], config: lora.Config,
            model_config: Any, dialect: str | None = None,
            dtype: Any = None) -> int:
    """Writes adapters as a safetensors file of one dialect.

    Args:
      path: the file.
      adapters: by expert.
      config: of the adapters.
      model_config: the preset of the model that they are for.
      dialect: one of `dialects`; None is the first.
      dtype: of the file; None keeps the adapters'.

    Returns:
      Bytes of tensors that were written.

    Raises:
      ConfigError: an unknown dialect, or one that holds one transformer.
      CheckpointError: adapters of layers that the transformer lacks.
    """
    dialect = dialect or self.dialects[0]
    if dialect not in self.dialects:
      raise errors.ConfigError(
          f"Adapters of {self.family.name} have no dialect {dialect!r}; have: "
          f"{', '.join(self.dialects)}.")
    if len(adapters) > 1 and "{expert}" not in DIALECTS[dialect].form:
      raise errors.ConfigError(
          f"A file in the dialect {dialect} holds adapters of one transformer; "
          f"name one of {', '.join(adapters)}.")
    tensors: dict[str, Any] = {}
    metadata = {"format": "pt"}
    facts: dict[str, float] = {}
    for expert, tree in adapters.items():
      tensors |= export(tree, config, self._names(model_config, expert),
                        dialect, expert)
      facts |= {f"{expert}.r": config.rank,
                f"{expert}.lora_alpha": config.alpha}
    if DIALECTS[dialect].alpha == "header":
      metadata[_HEADER] = json.dumps(facts)
    tensors = {name: np.asarray(tensor, dtype)
               for name, tensor in tensors.items()}
    safetensors.write(path, tensors, metadata)
    return sum(tensor.nbytes for tensor in tensors.values())

  def _names(self, config, expert):
    return self.family.parts(config)[expert].names


@functools.cache  # tracing a large model takes a second
def _shapes(model):
  return jax.eval_shape(model.init, jax.random.key(0))


def tables(names: Tables) -> dict[str, weights.Table]:
  """Layout -> table of adapters, from the transformer's own tables.

  The authors' own is left out where it joins what are several layers here:
  one A then belongs to all of them, which a table cannot say.
  """
  found = {"diffusers": _table(names["diffusers"])}
  original = names.get("original", ())
  if original and not any(
      isinstance(rule, weights.Rule) and rule.of > 1 for rule in original):
    found["original"] = _table(original)
    found["flat"] = _table(original, "_")
  return found


def _table(table, dot="."):
  rules = []
  for rule in table:
    if isinstance(rule, weights.Rule) and rule.transform is weights.linear:
      layer = _bare(rule.name)[1].removesuffix(".weight").replace(".", dot)
      path = rule.path.removesuffix("/kernel")
      rules += [
          weights.Rule(f"{layer}.lora_A.weight", f"{path}/lora_a",
                       weights.linear),
          weights.Rule(f"{layer}.lora_B.weight", f"{path}/lora_b",
                       weights.linear),
          weights.Rule(f"{layer}.alpha", f"{path}/alpha")]
  return rules


def _bare(name):
  """(expert or None, the name without what differs between dialects)."""
  expert, rest = _BEFORE.fullmatch(name).groups()
  return expert, _SIDE.sub(
      lambda match: f".{_SIDES[match[1]]}.weight", rest)


def _open(path):
  """(tensors, header strings) of a file, or of a folder that PEFT wrote."""
  metadata: dict[str, str] = {}
  peft = path / _PEFT if path.is_dir() else path.with_name(_PEFT)
  if peft.is_file():
    metadata[_HEADER] = peft.read_text()
  if path.suffix == ".safetensors":
    metadata |= safetensors.metadata(path)
  return folder.open_tensors(path), metadata


def _by_expert(tensors):
  """expert, or None where no name says it -> {name: tensor}."""
  found: dict[str | None, dict[str, Any]] = {}
  for name, tensor in tensors.items():
    found.setdefault(_bare(name)[0], {})[name] = tensor
  # A lone transformer says nothing of experts: it may be for any.
  if len(found) == 1 and "transformer" in found:
    return {None: found["transformer"]}
  return found


def _expert(name, experts, path):
  if name is None and len(experts) == 1:
    return experts[0]
  if name is None:
    raise errors.ConfigError(
        f"The model has the transformers {', '.join(experts)}, and {path} does "
        "not say which it is for; say so with expert=.")
  if name not in experts:
    raise errors.ConfigError(
        f"{path} is for {name!r}; the model has {', '.join(experts)}.")
  return name


def parse(
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    params: interfaces.Params,
    names: Tables,
) -> tuple[interfaces.Params, lora.Config]:
  """As `Formats.read`, for one transformer.

  Args:
    tensors: of a file.
    metadata: the file's header strings.
    params: the transformer's parameters, or anything of their shapes.
    names: dialect -> table of the transformer's own tensors.
  """
  bare: dict[str, Any] = {}
  for name, tensor in _without_base(tensors, names).items():
    short = _bare(name)[1]
    if short in bare:
      raise errors.CheckpointError(f"The adapter file holds {short} twice.")
    bare[short] = tensor
  known = tables(names)
  table = known[weights.choose(bare, known)]
  flat = paths.flatten(params)
  target = {}
  for name, tensor in bare.items():
    for _, path, _ in weights.locate(name, table):
      layer, leaf = path.rsplit("/", 1)
      kernel = flat.get(f"{layer}/kernel")
      if kernel is None:
        continue  # `weights.load` lists the tensor: it has no place
      *stack, inputs, outputs = kernel.shape
      shape = {
          "lora_a": (*stack, inputs, tensor.shape[0] if tensor.ndim else 1),
          "lora_b": (*stack, tensor.shape[-1] if tensor.ndim else 1, outputs),
          "alpha": tuple(stack),
      }[leaf]
      target[path] = jax.ShapeDtypeStruct(shape, np.float32)
  loaded = paths.flatten(weights.load(bare, table, paths.unflatten(target)))
  layers = sorted({path.rsplit("/", 1)[0] for path in loaded})
  half = [layer for layer in layers if not
          {f"{layer}/lora_a", f"{layer}/lora_b"} <= loaded.keys()]
  if half:
    raise errors.CheckpointError(
        f"The adapter file lacks A or B of {', '.join(half[:8])}.")
  return _with_strength(loaded, layers, _header_strength(metadata))


def _without_base(tensors, names):
  """What is left of a file that PEFT's model was saved into whole.

  Its base tensors are known to the model's table, and its averaged copy of
  everything ("net_ema.") repeats names.
  """
  if not any(".base_layer." in name for name in tensors):
    return tensors
  base = names.get("original", names["diffusers"])
  ignored = [rule.name for rule in base if isinstance(rule, weights.Ignore)]

  def known(name):
    own = name.replace(".base_layer.", ".")
    return (own.startswith("net_ema.") or weights.locate(own, base)
            or any(re.fullmatch(pattern, own) for pattern in ignored))

  return {name: tensor for name, tensor in tensors.items() if not known(name)}


def _header_strength(metadata):
  """The factor of A B that a header says; 1 where there is none."""
  fields = json.loads(metadata.get(_HEADER, "{}"))
  fields = {key.rpartition(".")[2]: value for key, value in fields.items()}
  if "lora_alpha" not in fields or "r" not in fields:
    return 1.0
  if fields.get("alpha_pattern") or fields.get("rank_pattern"):
    raise errors.CheckpointError(
        "The adapter file's header sets alpha or rank by layer "
        "(alpha_pattern, rank_pattern), which is not supported; save it in "
        "the comfyui dialect, which stores alpha beside each layer.")
  power = 0.5 if fields.get("use_rslora") else 1.0
  return fields["lora_alpha"] / fields["r"] ** power


def _with_strength(loaded, layers, default):
  """(adapters, config) from leaves lora_a, lora_b and, maybe, alpha."""
  ranks = {layer: loaded[f"{layer}/lora_a"].shape[-1] for layer in layers}
  scales = {
      layer: loaded[f"{layer}/alpha"] / ranks[layer]
      if f"{layer}/alpha" in loaded else np.float32(default)
      for layer in layers
  }
  known = np.unique(np.concatenate([np.ravel(scales[x]) for x in layers]))
  alike = len(known) == 1 and len(set(ranks.values())) == 1
  rank = max(ranks.values())
  tree = {}
  for layer in layers:
    tree[f"{layer}/lora_a"] = loaded[f"{layer}/lora_a"]
    scale = 1.0 if alike else np.reshape(scales[layer], (-1, 1, 1))
    b = loaded[f"{layer}/lora_b"]
    tree[f"{layer}/lora_b"] = (b * scale).reshape(b.shape).astype(b.dtype)
  alpha = float(known[0]) * rank if alike else float(rank)
  match = tuple(f"^{layer}$" for layer in layers)
  return paths.unflatten(tree), lora.Config(rank, alpha, match)


def export(
    adapters: interfaces.Params, config: lora.Config, names: Tables,
    dialect: str, expert: str,
) -> dict[str, Any]:
  """One transformer's adapters under a dialect's names.

  Raises:
    CheckpointError: adapters of layers that the transformer lacks.
  """
  style = DIALECTS[dialect]
  flat = {name: np.asarray(leaf)
          for name, leaf in paths.flatten(adapters).items()}
  for path in [name for name in flat if name.endswith("/lora_a")]:
    layer, rank = path.rsplit("/", 1)[0], flat[path].shape[-1]
    if not style.alpha:
      b = flat[f"{layer}/lora_b"]
      flat[f"{layer}/lora_b"] = (b * config.scale).astype(b.dtype)
    elif style.alpha == "beside":
      flat[f"{layer}/alpha"] = np.full(
          flat[path].shape[:-2], config.scale * rank, np.float32)
    elif rank < config.rank:  # one alpha and rank stand for all layers
      more = config.rank - rank
      none = [(0, 0)] * (flat[path].ndim - 2)
      flat[path] = np.pad(flat[path], [*none, (0, 0), (0, more)])
      flat[f"{layer}/lora_b"] = np.pad(
          flat[f"{layer}/lora_b"], [*none, (0, more), (0, 0)])
  found = weights.export(paths.unflatten(flat), tables(names)[style.layout])

  def say(name):
    layer, side = name.removesuffix(".weight").rsplit(".", 1)
    if side == "alpha":
      return style.form.partition(".{side}")[0].format(
          expert=expert, layer=layer) + ".alpha"
    return style.form.format(expert=expert, layer=layer, side=style.sides[
        side == "lora_B"])

  return {say(name): tensor for name, tensor in found.items()}
