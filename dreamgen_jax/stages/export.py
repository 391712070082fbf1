"""Stage: a world model trained from nothing -> a released-style folder."""

import pathlib
from typing import Any

from dreamgen_jax import checkpoint
from dreamgen_jax.encoders import tokenizer as tokenizer_lib
from dreamgen_jax.stages import models
from dreamgen_jax.world_models.wan import folder as wan_folder
from dreamgen_jax.world_models.wan import model as wan
from dreamgen_jax.world_models.wan import presets


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Joins the parts and writes them in half precision."""
  vae, facts = checkpoint.load(inputs["vae"] / "checkpoint")
  params, _ = checkpoint.load(inputs["world_model"] / "checkpoint")
  model = wan.Model(presets.with_latent_statistics(
      models.build("world_models", config.model).config,
      facts["latents_mean"], facts["latents_std"]))
  tokenizer = tokenizer_lib.load(str(inputs["world_model"] / "tokenizer.json"))
  wan_folder.save(folder / "nano", model, params | {"vae": vae}, tokenizer)
  size = sum(file.stat().st_size for file in (folder / "nano").rglob("*")
             if file.is_file())
  return {"bytes": size}
