"""Stage: video datasets -> latents and conditions, by a trained VAE."""

import pathlib
from typing import Any

from dreamgen_jax import checkpoint, registry
from dreamgen_jax.stages import latents, models


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Encodes up to `config.clips` clips of every input but `vae`."""
  inputs = dict(inputs)
  params, facts = checkpoint.load(inputs.pop("vae") / "checkpoint")
  recipe = registry.find("world_models", config.model.name).RECIPE
  model = recipe.normalised(
      models.build("world_models", config.model),
      facts["latents_mean"], facts["latents_std"])
  counts = {}
  for name, path in inputs.items():
    source = latents.clips(path / "data", model, config.camera)
    source.table = source.table[:config.clips]
    counts[name] = len(latents.encode(
        source, model, {"vae": params}, folder / name, config.batch_size))
  return {"clips": counts, "latents_mean": facts["latents_mean"],
          "latents_std": facts["latents_std"]}
