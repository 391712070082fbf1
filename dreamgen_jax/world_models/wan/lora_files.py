"""Adapter files of Wan's transformer, in the three dialects that are shared.

  diffusers  transformer.blocks.0.attn1.to_q.lora_A.weight; alpha is in the
             header, and is the rank where the header has none
  comfyui    diffusion_model.blocks.0.self_attn.q.lora_A.weight, and .alpha
  musubi     lora_unet_blocks_0_self_attn_q.lora_down.weight, and .alpha

What a file holds beside low-rank pairs (bias or whole-weight deltas of some
distilled models) has no place in `lora` and is refused by name.
"""

import json
import os
from collections.abc import Mapping

import jax
import numpy as np

from dreamgen_jax import errors, interfaces, lora, paths, safetensors, weights
from dreamgen_jax.world_models.wan import weights as names

_HEADER = "lora_adapter_metadata"
_PREFIXES = {"diffusers": "transformer.", "comfyui": "diffusion_model.",
             "musubi": "lora_unet_"}
_AB, _DOWN_UP = ("lora_A", "lora_B"), ("lora_down", "lora_up")


def _table(dialect: str) -> list[weights.Rule]:
  source = "diffusers" if dialect == "diffusers" else "original"
  rules = []
  for rule in names.NAMES[source]:
    if rule.transform is not weights.linear:
      continue
    module = rule.name.removesuffix(".weight")
    path = rule.path.removesuffix("/kernel")
    if dialect == "musubi":
      module = module.replace(".", "_")
    module = _PREFIXES[dialect] + module
    styles = [_DOWN_UP] if dialect == "musubi" else [_AB, _DOWN_UP]
    for style, (down, up) in enumerate(styles):
      for part, leaf in ((down, "lora_a"), (up, "lora_b")):
        rules.append(weights.Rule(
            f"{module}.{part}.weight", f"{path}/{leaf}", weights.linear,
            spare=style > 0))
    rules.append(weights.Rule(f"{module}.alpha", f"{path}/alpha"))
  return rules


TABLES = {dialect: _table(dialect) for dialect in _PREFIXES}


def read(
    path: str | os.PathLike, params: interfaces.Params
) -> tuple[interfaces.Params, lora.Config]:
  """Reads adapters from a file of any dialect.

  Args:
    path: a safetensors file.
    params: the transformer's parameters, or anything of their shapes.

  Returns:
    (adapters, config). Where layers differ in rank or strength, the strength
    is multiplied into B, and config.alpha equals config.rank.

  Raises:
    CheckpointError: unknown dialect, or tensors that do not fit; listed.
  """
  return parse(safetensors.read(path), safetensors.metadata(path), params)


def parse(
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    params: interfaces.Params,
) -> tuple[interfaces.Params, lora.Config]:
  """As `read`, from a file's tensors and header strings."""
  table = TABLES[weights.choose(tensors, TABLES)]
  flat = paths.flatten(params)
  target = {}
  for name, tensor in tensors.items():
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
  loaded = paths.flatten(
      weights.load(tensors, table, paths.unflatten(target)))
  layers = sorted({path.rsplit("/", 1)[0] for path in loaded})
  half = [layer for layer in layers if not
          {f"{layer}/lora_a", f"{layer}/lora_b"} <= loaded.keys()]
  if half:
    raise errors.CheckpointError(
        f"The adapter file lacks A or B of {', '.join(half[:8])}.")
  return _with_strength(loaded, layers, _header_strength(metadata))


def _header_strength(metadata):
  """alpha / rank of a diffusers header; 1 where it has none."""
  fields = json.loads(metadata.get(_HEADER, "{}"))
  fields = {key.rpartition(".")[2]: value for key, value in fields.items()}
  if "lora_alpha" not in fields or "r" not in fields:
    return 1.0
  if fields.get("alpha_pattern") or fields.get("rank_pattern"):
    raise errors.CheckpointError(
        "The adapter file's header sets alpha or rank by layer "
        "(alpha_pattern, rank_pattern), which is not supported; save it in "
        "the comfyui dialect, which stores alpha beside each layer.")
  return fields["lora_alpha"] / fields["r"]


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


def write(
    path: str | os.PathLike,
    adapters: interfaces.Params,
    config: lora.Config,
    dialect: str = "diffusers",
) -> None:
  """Writes adapters as a file of one dialect.

  Raises:
    ConfigError: an unknown dialect.
    CheckpointError: adapters of layers that Wan's transformer lacks.
  """
  if dialect not in TABLES:
    raise errors.ConfigError(
        f"Adapter dialect {dialect!r}; have: {', '.join(TABLES)}.")
  flat = {name: np.asarray(leaf)
          for name, leaf in paths.flatten(adapters).items()}
  metadata = {"format": "pt"}
  if dialect == "diffusers":
    metadata[_HEADER] = json.dumps(
        {"transformer.r": config.rank, "transformer.lora_alpha": config.alpha})
  else:
    for name in [name for name in flat if name.endswith("/lora_a")]:
      stack, a = flat[name].shape[:-2], flat[name]
      alpha = config.scale * a.shape[-1]
      flat[name.replace("/lora_a", "/alpha")] = np.full(
          stack, alpha, np.float32)
  tensors = weights.export(paths.unflatten(flat), TABLES[dialect])
  safetensors.write(path, tensors, metadata)
