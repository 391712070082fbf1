"""Stage: trains transformer and text encoders of a world model.

Reads latents; writes `checkpoint` (all but the VAE) and the tokenizer.
Starts from nothing, or goes on from another such stage (input `start`).
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax import checkpoint, pretraining, registry
from dreamgen_jax.data import loader
from dreamgen_jax.encoders import tokenizer as tokenizer_lib
from dreamgen_jax.stages import latents, models, train

HELDOUT = "heldout"


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Trains on all latents but `heldout`, measures on those."""
  model = models.build("world_models", config.model)
  start = inputs.get("start")
  sources = {path.name: latents.Latents(path)
             for path in sorted(inputs["latents"].iterdir()) if path.is_dir()}
  words = tokenizer_lib.load(
      str(start / "tokenizer.json")) if start else tokenizer_lib.train(
          (caption for name, source in sources.items() if name != HELDOUT
           for caption in source.captions), config.vocab_size)
  words.save(str(folder / "tokenizer.json"))
  tokenizer = registry.find(
      "world_models", config.model.name).RECIPE.tokenizer(words)
  objective = pretraining.TextToVideo(
      model, model.tokenize(tokenizer, [""]), config.text_dropout)
  known = {}

  def tokens(sample):
    caption = sample.pop("caption")
    if caption not in known:
      known[caption] = {name: leaf[0] for name, leaf in
                        model.tokenize(tokenizer, [caption]).items()}
    return sample | known[caption]

  batches = loader.loader(
      [(source, float(len(source))) for name, source in sources.items()
       if name != HELDOUT],
      config.train.batch_size, config.train.seed, then=tokens,
      **train.share(config.train))
  rows = [tokens(sources[HELDOUT][i]) for i in range(len(sources[HELDOUT]))]
  heldout = {name: np.stack([row[name] for row in rows]) for row in rows[:1]
             for name in row}

  @jax.jit
  def velocity_error(params):  # the same noise each time
    keys = jax.random.split(jax.random.key(1), 4)
    return jnp.mean(jax.lax.map(
        lambda key: objective.loss(params, key, heldout)[1]["velocity_error"],
        keys))

  def evaluate(params, unused_step=0):
    return {"heldout_error": float(velocity_error(params))}

  result = train.fit(
      objective,
      checkpoint.load(start / "checkpoint")[0] if start
      else objective.init(jax.random.key(config.train.seed)),
      batches, config.train, folder, name=folder.name, evaluate=evaluate)
  batches.close()
  checkpoint.save(folder / "checkpoint", result.params, {})
  measured = [row for row in result.history if "heldout_error" in row]
  return {"seconds": result.seconds,
          "heldout_error": measured[-1]["heldout_error"]}
