"""Stage 1: tunes a pretrained world model on demonstrations.

Reads demonstrations (RLDS) and a base model. Writes `checkpoint` (adapters, or
whole transformers where config.lora is None), `samples/` (what is dreamed of
held-out clips as training goes), and `examples.npz`: held-out clips beside
what prior and tuned model dream of them.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from dreamgen_jax import checkpoint, errors, interfaces, lora, types
from dreamgen_jax.data import loader
from dreamgen_jax.stages import heldout as heldout_lib
from dreamgen_jax.stages import latents, models, train, world_model

_ADAPTERS = 1  # purpose of a random key
Loss = tuple[types.Array, dict[str, types.Array]]


@dataclasses.dataclass(frozen=True)
class Whole:
  """One transformer of a world model, trained in all its parameters.

  Parameters: {"base": the transformer's, "empty": the text leaves of the
  empty prompt, which replace a sample's own with probability `text_dropout`,
  for classifier-free guidance}.
  """

  model: interfaces.WorldModel
  expert: str
  text_dropout: float

  def loss(self, params: interfaces.Params, rng: types.Array,
           batch: interfaces.Batch) -> Loss:
    """The model's own loss, with some prompts emptied."""
    drop_rng, rng = jax.random.split(rng)
    drop = jax.random.bernoulli(
        drop_rng, self.text_dropout, (len(batch["latent"]),))
    text = {name: jnp.where(jnp.expand_dims(drop, range(1, batch[name].ndim)),
                            empty, batch[name])
            for name, empty in params["empty"].items()}
    return self._apply(self.model.loss, params, rng, {**batch, **text})

  def error_at(self, params: interfaces.Params, rng: types.Array,
               batch: interfaces.Batch, tau: types.Array) -> types.Array:
    """As `interfaces.WorldModel.error_at`."""
    return self._apply(self.model.error_at, params, rng, batch, tau)

  def _apply(self, function, params, *inputs):
    return function({self.expert: params["base"]}, *inputs)


@dataclasses.dataclass(frozen=True)
class Adapted(Whole):
  """One transformer that runs with adapters, params["lora"], and is frozen."""

  config: lora.Config

  def _apply(self, function, params, *inputs):
    run = lora.adapted(
        lambda base, *inputs: function({self.expert: base}, *inputs),
        self.config)
    return run(params["base"], params["lora"], *inputs)


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Trains, watching held-out clips; then measures their future frames."""
  base = world_model.load_base(config.model)
  if base.model.config.text_sees_frame and config.text_dropout:
    raise errors.ConfigError(
        f"{config.model.name} reads prompts together with the frame, and "
        "needs no guidance: set config.finetune.text_dropout = 0.")
  encoded = latents.encode(
      latents.clips(inputs["demonstrations"] / "data", base.model,
                    config.camera),
      base.model, base.params, folder / "latents", config.batch_size,
      base.tokenizer)
  heldout = heldout_lib.read(
      inputs["heldout"] / "data", base, config, folder / "heldout")
  states = {} if base.model.config.text_sees_frame else world_model.text(
      base, ["", *encoded.captions])

  def with_text(sample):
    return sample | states.get(sample.pop("caption"), {})

  batches = loader.loader(
      [(encoded, 1.0)], config.train.batch_size, config.train.seed,
      then=with_text)
  start, tuned, seconds = batches.get_state(), {}, 0.0
  for expert in base.model.config.experts:  # each has steps of its own
    batches.set_state(start)
    result = _fit(config, base, expert, states.get("", {}), batches, heldout,
                  folder)
    tuned[expert] = result.params["lora" if config.lora else "base"]
    seconds += result.seconds
  batches.close()
  settings = dict(config.lora) if config.lora else None
  checkpoint.save(folder / "checkpoint", tuned, {
      "model": config.model.to_dict(), "lora": settings,
      "source": base.source})
  return {"seconds": seconds} | heldout_lib.compare(
      base, world_model.merge(base.params, tuned, settings), heldout,
      config.sampler, folder / "examples.npz")


def _fit(config: Any, base: world_model.Loaded, expert: str,
         empty: interfaces.Batch, batches: Any, heldout: heldout_lib.Heldout,
         folder: pathlib.Path) -> train.Result:
  """Trains one expert's adapters, or all of it."""
  params = {"base": base.params[expert], "empty": empty}
  settings = dict(config.lora) if config.lora else None
  if settings:
    adapters = lora.Config(**settings)
    objective: Whole = Adapted(
        base.model, expert, config.text_dropout, adapters)
    params["lora"] = lora.init(
        jax.random.fold_in(jax.random.key(config.train.seed), _ADAPTERS),
        base.params[expert], adapters)
  else:
    objective = Whole(base.model, expert, config.text_dropout)
  watch = heldout_lib.Watch(
      objective, params, heldout,
      heldout_lib.levels(base.model.config, expert))

  def evaluate(params, step):
    tuned = {expert: params["lora" if settings else "base"]}
    heldout_lib.sample(
        dataclasses.replace(base, params=world_model.merge(
            base.params, tuned, settings)), heldout, config.sampler,
        folder / "samples" / f"{expert}_{step:06d}.mp4")
    return watch(params, step)

  alone = len(base.model.config.experts) == 1
  return train.fit(
      objective, params, batches,
      config.train, folder if alone else folder / expert,
      name=folder.name if alone else f"{folder.name} {expert}",
      rules=models.rules("world_models", config.model), evaluate=evaluate)
