"""World models as stages find them: a released folder, or one that was tuned.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from dreamgen_jax import checkpoint, dreamer, errors, interfaces, lora, registry
from dreamgen_jax.stages import artefact, models


@dataclasses.dataclass(frozen=True)
class Loaded:
  """A model, its parameters with adapters merged, and where they are from."""

  model: interfaces.WorldModel
  params: interfaces.Params
  tokenizer: Any
  folder: pathlib.Path  # of the base weights
  adapter: str = ""  # digest of the adapter

  @functools.cached_property
  def source(self) -> str:
    """Digest of the base weights; reads every file, so only when asked."""
    return artefact.digest(self.folder)[:16]


def load_base(spec: Mapping[str, Any], parts: tuple[str, ...] | None = None
              ) -> Loaded:
  """The base model that `dict(name=, preset=, source=, kw=)` names."""
  built = models.build("world_models", spec)
  module = registry.find("world_models", spec["name"])
  model, params, tokenizer = module.load(spec["source"], built.config, parts)
  return Loaded(model, params, tokenizer, module.locate(spec["source"]))


def load_tuned(folder: pathlib.Path) -> Loaded:
  """What the stage `finetune` wrote.

  Raises:
    CheckpointError: the base weights are not those that were tuned.
  """
  tuned, meta = checkpoint.load(folder / "checkpoint")
  base = load_base(meta["model"])
  if base.source != meta["source"]:
    raise errors.CheckpointError(
        f"The adapter in {folder} was tuned on base weights "
        f"{meta['source']}, but {meta['model']['source']!r} now holds "
        f"{base.source}; run finetune again.")
  return dataclasses.replace(
      base, params=merge(base.params, tuned, meta["lora"]),
      adapter=artefact.digest(folder / "checkpoint")[:16])


def merge(params: interfaces.Params, tuned: Mapping[str, Any],
          settings: Mapping[str, Any] | None) -> interfaces.Params:
  """The parameters with what was tuned of each expert.

  Args:
    params: of the base model.
    tuned: expert -> adapters, or whole transformers.
    settings: of the adapters (`lora.Config`); None for whole transformers.
  """
  if settings is None:
    return dict(params) | dict(tuned)
  config = lora.Config(**settings)
  return dict(params) | {
      expert: lora.merge(params[expert], adapters, config)
      for expert, adapters in tuned.items()}


def text(loaded: Loaded, prompts: list[str]) -> dict[str, Any]:
  """Each prompt -> its text leaves."""
  leaves = dreamer.encode_prompts(
      loaded.model, loaded.params, loaded.tokenizer, prompts)
  return {prompt: {name: leaf[row] for name, leaf in leaves.items()}
          for row, prompt in enumerate(prompts)}


def make_dreamer(loaded: Loaded, config: Any) -> dreamer.Dreamer:
  """A dreamer with a config's sampler settings."""
  return dreamer.Dreamer(
      loaded.model, loaded.params, loaded.tokenizer, steps=config.steps,
      guidance=config.guidance, batch_size=config.batch_size,
      clips=config.get("clips", 1))


def sampler(loaded: Loaded, config: Any) -> str:
  """JSON of how clips are drawn, for their provenance."""
  return json.dumps({
      "model": type(loaded.model).__module__.split(".")[-2],
      "steps": config.steps, "guidance": config.guidance,
      "clips": config.get("clips", 1)}, sort_keys=True)
