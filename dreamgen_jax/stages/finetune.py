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

from dreamgen_jax import checkpoint, dreamer, interfaces, lora, metrics, types
from dreamgen_jax.data import loader
from dreamgen_jax.stages import latents, models, train, world_model

_ADAPTERS = 1  # purpose of a random key


@dataclasses.dataclass(frozen=True)
class Adapted:
  """A world model whose transformer runs with adapters.

  Parameters: {"base": the transformer's, "lora": the adapters, "empty": text
  states f32[m,d] of the empty prompt, which replaces a sample's own with
  probability `text_dropout`, for classifier-free guidance}.
  """

  model: interfaces.WorldModel
  config: lora.Config
  text_dropout: float

  def loss(self, params: interfaces.Params, rng: types.Array,
           batch: interfaces.Batch
           ) -> tuple[types.Array, dict[str, types.Array]]:
    """The model's own loss."""
    drop_rng, rng = jax.random.split(rng)
    drop = jax.random.bernoulli(
        drop_rng, self.text_dropout, (len(batch["text"]), 1, 1))
    text = jnp.where(drop, params["empty"], batch["text"])
    adapted = lora.adapted(
        lambda base, rng, batch: self.model.loss(
            {"transformer": base}, rng, batch), self.config)
    return adapted(
        params["base"], params["lora"], rng, {**batch, "text": text})


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Trains adapters, then measures future frames on held-out clips."""
  base = world_model.load_base(config.model)
  model = base.model
  source = latents.clips(
      inputs["demonstrations"] / "data", model, config.camera)
  encoded = latents.encode(
      source, model, base.params, folder / "latents", config.batch_size)

  prompts = ["", *encoded.captions]
  states = dict(zip(prompts, dreamer.encode_prompts(
      model, base.params, base.tokenizer, prompts), strict=True))

  def with_text(sample):
    caption = sample.pop("caption")
    return sample | {"text": states[caption]}

  batches = loader.loader(
      [(encoded, 1.0)], config.train.batch_size, config.train.seed,
      then=with_text)
  settings = lora.Config(**config.lora)
  key = jax.random.key(config.train.seed)
  adapters = lora.init(
      jax.random.fold_in(key, _ADAPTERS), base.params["transformer"], settings)
  result = train.fit(
      Adapted(model, settings, config.text_dropout),
      {"base": base.params["transformer"], "lora": adapters,
       "empty": states[""]}, batches, config.train, folder, name=folder.name,
      rules=models.rules("world_models", config.model))
  batches.close()
  tuned = result.params["lora"]
  facts = {"model": config.model.to_dict(), "lora": dict(config.lora),
           "source": base.source}
  checkpoint.save(folder / "checkpoint", tuned, facts)
  return {"seconds": result.seconds} | _measure(
      config, inputs["heldout"] / "data", base, base.params | {
          "transformer": lora.merge(
              base.params["transformer"], tuned, settings)}, folder)


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
