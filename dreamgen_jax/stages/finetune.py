"""Stage 1: tunes a pretrained world model on demonstrations, with LoRA.

Reads demonstrations (RLDS) and a base model; writes `checkpoint` (adapters),
and `examples.npz`: held-out clips beside what prior and tuned model dream.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax import (
    checkpoint,
    dreamer,
    errors,
    interfaces,
    lora,
    metrics,
    types,
)
from dreamgen_jax.data import loader
from dreamgen_jax.stages import latents, models, train, world_model

_ADAPTERS = 1  # purpose of a random key


@dataclasses.dataclass(frozen=True)
class Adapted:
  """A world model, one transformer of which runs with adapters.

  Parameters: {"base": the transformer's, "lora": the adapters, "empty": the
  text leaves of the empty prompt, which replace a sample's own with
  probability `text_dropout`, for classifier-free guidance}.
  """

  model: interfaces.WorldModel
  expert: str
  config: lora.Config
  text_dropout: float

  def loss(self, params: interfaces.Params, rng: types.Array,
           batch: interfaces.Batch
           ) -> tuple[types.Array, dict[str, types.Array]]:
    """The model's own loss."""
    drop_rng, rng = jax.random.split(rng)
    drop = jax.random.bernoulli(
        drop_rng, self.text_dropout, (len(batch["latent"]),))
    text = {name: jnp.where(jnp.expand_dims(drop, range(1, batch[name].ndim)),
                            empty, batch[name])
            for name, empty in params["empty"].items()}
    adapted = lora.adapted(
        lambda base, rng, batch: self.model.loss(
            {self.expert: base}, rng, batch), self.config)
    return adapted(params["base"], params["lora"], rng, {**batch, **text})


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Trains adapters, then measures future frames on held-out clips."""
  base = world_model.load_base(config.model)
  model = base.model
  if model.config.text_sees_frame and config.text_dropout:
    raise errors.ConfigError(
        f"{config.model.name} reads prompts together with the frame, and "
        "needs no guidance: set config.finetune.text_dropout = 0.")
  source = latents.clips(
      inputs["demonstrations"] / "data", model, config.camera)
  encoded = latents.encode(
      source, model, base.params, folder / "latents", config.batch_size,
      base.tokenizer)
  states = {} if model.config.text_sees_frame else _text(
      base, ["", *encoded.captions])

  def with_text(sample):
    return sample | states.get(sample.pop("caption"), {})

  batches = loader.loader(
      [(encoded, 1.0)], config.train.batch_size, config.train.seed,
      then=with_text)
  settings = lora.Config(**config.lora)
  key = jax.random.key(config.train.seed)
  adapters, start, seconds = {}, batches.get_state(), 0.0
  for expert in model.config.experts:  # each has adapters and steps of its own
    batches.set_state(start)
    alone = len(model.config.experts) == 1
    result = train.fit(
        Adapted(model, expert, settings, config.text_dropout),
        {"base": base.params[expert],
         "lora": lora.init(jax.random.fold_in(key, _ADAPTERS),
                           base.params[expert], settings),
         "empty": states.get("", {})},
        batches, config.train, folder if alone else folder / expert,
        name=folder.name if alone else f"{folder.name} {expert}",
        rules=models.rules("world_models", config.model))
    adapters[expert] = result.params["lora"]
    seconds += result.seconds
  batches.close()
  facts = {"model": config.model.to_dict(), "lora": dict(config.lora),
           "source": base.source}
  checkpoint.save(folder / "checkpoint", adapters, facts)
  tuned = world_model.merge(base.params, adapters, settings)
  return {"seconds": seconds} | _measure(
      config, inputs["heldout"] / "data", base, tuned, folder)


def _text(base: world_model.Loaded, prompts: list[str]) -> dict[str, Any]:
  """Each prompt -> its text leaves."""
  leaves = dreamer.encode_prompts(
      base.model, base.params, base.tokenizer, prompts)
  return {prompt: {name: leaf[row] for name, leaf in leaves.items()}
          for row, prompt in enumerate(prompts)}


def _measure(config: Any, path: pathlib.Path, base: world_model.Loaded,
             tuned: interfaces.Params, folder: pathlib.Path
             ) -> dict[str, float]:
  """PSNR of the frames after the first: repeated, prior, tuned."""
  source = latents.clips(path, base.model, config.camera)
  rows = [source[i] for i in
          np.linspace(0, len(source) - 1, config.evaluate_clips).astype(int)]
  truth = np.stack([row["video"] for row in rows])  # n f h w 3
  captions = [row["instruction"] for row in rows]
  videos = {"repeat": np.repeat(truth[:, :1], truth.shape[1], axis=1)}
  for name, params in (("prior", base.params), ("tuned", tuned)):
    dreams = world_model.make_dreamer(
        dataclasses.replace(base, params=params), config.sampler)
    videos[name] = dreams.dream(truth[:, 0], captions, range(len(truth)))
  np.savez_compressed(
      folder / "examples.npz", truth=truth, captions=np.array(captions),
      repeat=videos["repeat"], prior=videos["prior"], tuned=videos["tuned"])
  return {f"psnr_{name}": metrics.psnr(video[:, 1:], truth[:, 1:])
          for name, video in videos.items()}
