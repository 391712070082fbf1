"""World models as stages find them: a released folder, or one that was tuned,
with whatever adapters are stacked onto it.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from dreamgen_jax import (
    checkpoint,
    dreamer,
    errors,
    interfaces,
    lora,
    lora_files,
    registry,
    sharding,
)
from dreamgen_jax.stages import adapters as adapters_lib
from dreamgen_jax.stages import artefact, models

Change = tuple[str, interfaces.Params, float]  # expert, adapters, factor of A B


@dataclasses.dataclass(frozen=True)
class Loaded:
  """A model, its parameters with adapters merged, and where they are from."""

  model: interfaces.WorldModel
  params: interfaces.Params
  tokenizer: Any
  folder: pathlib.Path  # of the base weights
  on: jax.sharding.Mesh | None = None  # where the parameters lie
  reader: interfaces.Params | None = None  # text encoder, if it lies elsewhere
  adapter: str = ""  # digests of what tuned the base, and their weights
  base_adapters: tuple[str, ...] = ()  # of what the base is understood to hold

  @functools.cached_property
  def source(self) -> str:
    """Digest of the base weights; reads every file, so only when asked."""
    return " ".join((artefact.digest(self.folder)[:16], *self.base_adapters))


def load_base(spec: Mapping[str, Any], parts: Sequence[str] | None = None,
              on: jax.sharding.Mesh | None = None) -> Loaded:
  """The base that `dict(name=, preset=, source=, kw=, adapters=())` names.

  Args:
    spec: see above. With `hold`, such as "bfloat16", that is how its
      transformers and its text encoder are held.
    parts: of the parameters; None is all.
    on: mesh to read them onto, each device's part alone, so that no device or
      host holds the whole; None leaves numpy arrays.
  """
  built = models.build("world_models", spec)
  module = registry.find("world_models", spec["name"])
  lay = on and functools.partial(
      sharding.by_rules, rules=module.RULES, on=on)
  model, params, tokenizer = module.load(
      spec["source"], built.config, parts, lay, held(spec, built.config))
  stacked = adapters_lib.parse(spec.get("adapters", ()))
  if set(model.config.experts) <= params.keys():
    params = merge(params, {}, None, changes(
        stacked, spec["name"], model.config, params))
  return Loaded(model, params, tokenizer, module.locate(spec["source"]), on,
                base_adapters=tuple(item.digest for item in stacked))


def parts(spec: Mapping[str, Any]) -> list[str]:
  """Names of the parts of the model that the section names."""
  family = registry.find(f"world_models.{spec['name']}", "folder").FAMILY
  return list(family.parts(models.build("world_models", spec).config))


def held(spec: Mapping[str, Any], config: Any) -> dict[str, str]:
  """part -> dtype, for the parts that are held in the one `hold` names."""
  if not spec.get("hold"):
    return {}
  return dict.fromkeys((*config.experts, "text"), spec["hold"])


def load_tuned(folder: pathlib.Path,
               adapters: Iterable[Mapping[str, Any]] = (),
               on: jax.sharding.Mesh | None = None) -> Loaded:
  """What the stage `finetune` wrote, and further adapters beside it.

  `on` as of `load_base`.

  Raises:
    CheckpointError: the base weights are not those that were tuned, or an
      adapter does not fit them.
  """
  meta = checkpoint.meta(folder / "checkpoint")
  base = load_base(meta["model"], on=on)
  tuned, _ = checkpoint.load(folder / "checkpoint", lay=on and (
      functools.partial(sharding.by_rules, on=on,
                        rules=models.rules("world_models", meta["model"]))))
  if base.source != meta["source"]:
    raise errors.CheckpointError(
        f"The adapter in {folder} was tuned on base weights "
        f"{meta['source']}, but {meta['model']['source']!r} now holds "
        f"{base.source}; run finetune again.")
  stacked = adapters_lib.parse(adapters)
  others = changes(
      stacked, meta["model"]["name"], base.model.config, base.params)
  return dataclasses.replace(
      base, params=merge(base.params, tuned, meta["lora"], others),
      adapter=" ".join((checkpoint.digest(tuned, meta)[:16],
                        *(item.digest for item in stacked))))


def merge(
    params: interfaces.Params, tuned: Mapping[str, Any],
    settings: Mapping[str, Any] | None, others: Sequence[Change] = (),
) -> interfaces.Params:
  """The parameters with what was tuned of each expert, rounded once.

  Args:
    params: of the base model.
    tuned: expert -> adapters, or whole transformers.
    settings: of the adapters (`lora.Config`); None for whole transformers.
    others: further changes.
  """
  parts: dict[str, list[tuple[interfaces.Params, float]]] = {}
  if settings is None:
    params = dict(params) | dict(tuned)
  else:
    scale = lora.Config(**settings).scale
    parts = {expert: [(tree, scale)] for expert, tree in tuned.items()}
  for expert, tree, factor in others:
    parts.setdefault(expert, []).append((tree, factor))
  return dict(params) | {
      expert: lora.merge_all(params[expert], changes)
      for expert, changes in parts.items()}


def changes(
    stacked: Iterable[adapters_lib.Adapter], family: str, config: Any,
    params: interfaces.Params,
) -> list[Change]:
  """What adapters change, each with its weight.

  Raises:
    CheckpointError: an adapter does not fit the model.
  """
  found = []
  for item in stacked:
    for expert, (tree, own) in read_adapter(item, family, config).items():
      try:
        lora.check(params[expert], tree)
      except errors.ConfigError as error:
        raise errors.CheckpointError(f"{item.path}: {error}") from error
      found.append((expert, tree, item.weight * own.scale))
  return found


def read_adapter(item: adapters_lib.Adapter, family: str,
                 config: Any) -> lora_files.Tuned:
  """expert -> (adapters, their config), from a file or a stage's folder.

  Raises:
    CheckpointError: the file does not fit the model, or the stage tuned
      whole transformers.
  """
  if not item.stage:
    return registry.find(f"world_models.{family}", "lora_files").FORMATS.read(
        item.path, config, item.expert)
  tuned, meta = checkpoint.load(item.stage)
  if not meta["lora"]:
    raise errors.CheckpointError(
        f"{item.path} holds whole transformers; there is no adapter in it.")
  unknown = set(tuned) - set(config.experts)
  if meta["model"]["name"] != family or unknown:
    raise errors.CheckpointError(
        f"The adapter in {item.path} is for {', '.join(tuned)} of "
        f"{meta['model']['name']}, not for this {family}.")
  return {expert: (tree, lora.Config(**meta["lora"]))
          for expert, tree in tuned.items()}


def write_adapter(source: str, output: str, family: str | None,
                  preset: str | None, dialect: str | None,
                  expert: str | None, dtype: Any) -> int:
  """Writes an adapter as a file that other programs read.

  Args:
    source: file, or folder of the stage that trained it.
    output: the safetensors file.
    family, preset: of the model; a stage's folder says them itself.
    dialect, dtype: see `lora_files.Formats.write`.
    expert: the transformer that it is for, or of which to write it.

  Returns:
    Bytes of tensors that were written.
  """
  item = adapters_lib.Adapter(source)
  spec: Mapping[str, Any] = {"name": family, "preset": preset}
  if item.stage:
    spec = checkpoint.load(item.stage)[1]["model"]
  elif not (family and preset):
    raise errors.ConfigError(
        "A file does not say which model it is for: give --family and "
        "--preset.")
  else:
    item = dataclasses.replace(item, expert=expert)
  config = models.build("world_models", spec).config
  found = read_adapter(item, spec["name"], config)
  if expert and expert not in found:
    raise errors.ConfigError(
        f"{source} has no adapter of {expert!r}; have: {', '.join(found)}.")
  chosen = {name: part for name, part in found.items()
            if expert in (None, name)}
  settings = [own for _, own in chosen.values()]
  if len({(own.rank, own.alpha) for own in settings}) > 1:
    raise errors.ConfigError(
        f"The adapters of {' and '.join(chosen)} differ in rank or alpha; "
        "write one at a time, with --parts.")
  formats = registry.find(f"world_models.{spec['name']}", "lora_files").FORMATS
  return formats.write(
      output, {name: tree for name, (tree, _) in chosen.items()},
      settings[0], config, dialect, dtype)


def text(loaded: Loaded, prompts: list[str]) -> dict[str, Any]:
  """Each prompt -> its text leaves."""
  leaves = dreamer.encode_prompts(
      loaded.model, loaded.params, loaded.tokenizer, prompts)
  return {prompt: {name: leaf[row] for name, leaf in leaves.items()}
          for row, prompt in enumerate(prompts)}


def mesh(config: Any) -> jax.sharding.Mesh | None:
  """Of this host's devices, if a sampler's settings say that they share."""
  sizes = config.get("mesh")
  return sharding.mesh(sizes, jax.local_devices()) if sizes else None


def rules(model: interfaces.WorldModel) -> list[tuple[str, tuple]]:
  """How a model's parameters lie on a mesh."""
  return registry.find("world_models", _family(model)).RULES


def make_dreamer(loaded: Loaded, config: Any) -> dreamer.Dreamer:
  """A dreamer with a config's sampler settings.

  These are steps, guidance, batch_size; and if they are there, clips, negative
  (a prompt), sampling: fields of the model's config, such as its solver, and
  mesh, over which this host's devices dream together, unless the parameters
  lie on one already.

  Raises:
    ConfigError: `sampling` names a field that does more than sample.
  """
  known, changes = loaded.model.config.sampling, config.get("sampling", {})
  for name in changes:
    if name not in known:
      raise errors.ConfigError(
          f"sampling has no {name!r}; this model's sampler has: "
          f"{', '.join(known)}." + registry.nearest(name, list(known)))
  params, on = loaded.params, loaded.on or mesh(config)
  if on:
    params = sharding.lay(params, rules(loaded.model), on)
  return dreamer.Dreamer(
      models.replaced(loaded.model, changes, "sampling"), params,
      loaded.tokenizer, mesh=on, reader=loaded.reader, steps=config.steps,
      guidance=config.guidance,
      batch_size=config.batch_size, negative=config.get("negative"),
      clips=config.get("clips", 1))


def sampler(made: dreamer.Dreamer) -> str:
  """JSON of how clips are drawn, for their provenance."""
  c = made.model.config
  return json.dumps({
      "model": _family(made.model),
      "steps": made.steps, "guidance": made.guidance, "clips": made.clips,
      "negative": made.negative, **{
          name: vars(value) if dataclasses.is_dataclass(value) else value
          for name, value in ((name, getattr(c, name)) for name in c.sampling)
      }}, sort_keys=True)


def _family(model: interfaces.WorldModel) -> str:
  return type(model.config).__module__.split(".")[-2]
