"""Stage 1: tunes a pretrained world model on demonstrations.

Reads demonstrations (RLDS), cut into clips of config.frame_buckets (numbers of
frames; else the model's own), and a base model, which config.lora.quantize
holds in 8 or 4 bits. Any further input but `heldout` gets a share of each batch
(`data.mix.weights`; equal ones by default): videos of what the base knows
already, so that tuning on one skill of one robot does not cost the others, or
of the robot by itself. Writes
`checkpoint` (adapters, or whole transformers where config.lora is None),
`samples/` (what is dreamed of held-out clips as training goes), and
`examples.npz`: held-out clips beside what prior and tuned model dream of them.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dreamgen_jax import (
    checkpoint,
    errors,
    interfaces,
    lora,
    quantize,
    sharding,
    types,
)
from dreamgen_jax.data import loader, mix
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
    run = quantize.aware(
        lambda base, *inputs: function({self.expert: base}, *inputs))
    return lora.adapted(run, self.config)(
        params["base"], params["lora"], *inputs)


@dataclasses.dataclass(frozen=True)
class Apart:
  """A world model that keeps adapters apart from its quantised base.

  Parameters: the model's, and {"lora": {expert: adapters}} once there are any.
  """

  model: interfaces.WorldModel
  adapters: lora.Config

  def __getattr__(self, name: str) -> Any:
    return getattr(self.model, name)

  def generate(self, params: interfaces.Params, *inputs: Any,
               **settings: Any) -> types.Array:
    """As `interfaces.WorldModel.generate`."""
    run = quantize.aware(self.model.generate)
    if "lora" not in params:
      return run(params, *inputs, **settings)
    return lora.adapted(run, self.adapters)(
        params, params["lora"], *inputs, **settings)


def objective(config: Any, model: interfaces.WorldModel,
              expert: str) -> Whole:
  """What the stage trains of one transformer, as its config says."""
  if not config.lora:
    return Whole(model, expert, config.text_dropout)
  return Adapted(
      model, expert, config.text_dropout, lora.Config(**config.lora))


def start(config: Any, base: interfaces.Params, empty: interfaces.Batch,
          make: Callable[..., Any] = lambda init: init()
          ) -> interfaces.Params:
  """The parameters of `objective` before the first step.

  `make` calls a function that initialises some, such as by `sharding.make`.
  """
  params = {"base": base, "empty": empty}
  if config.lora:
    rng = jax.random.fold_in(jax.random.key(config.train.seed), _ADAPTERS)
    params["lora"] = make(
        lambda: lora.init(rng, base, lora.Config(**config.lora)))
  return params


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Trains, watching held-out clips; then measures their future frames."""
  base, encoders = _load(config)
  if base.model.config.text_sees_frame and config.text_dropout:
    raise errors.ConfigError(
        f"{config.model.name} reads prompts together with the frame, and "
        "needs no guidance: set config.finetune.text_dropout = 0.")
  encoded = _encoded(config, inputs, encoders, folder)
  heldout = heldout_lib.read(
      inputs["heldout"] / "data", encoders, config, folder / "heldout")
  states = {} if base.model.config.text_sees_frame else world_model.text(
      encoders, ["", *(caption for bucket in encoded for clips, _ in bucket
                   for caption in clips.captions)])

  def with_text(sample):
    return sample | states.get(sample.pop("caption"), {})

  settings = dict(config.lora) if config.lora else None
  if settings and settings.get("quantize"):
    base = _quantized(base, lora.Config(**settings))

  batches = loader.bucketed(
      encoded, config.train.batch_size, config.train.seed, then=with_text,
      **train.share(config.train))
  start, tuned, seconds = batches.get_state(), {}, 0.0
  for expert in base.model.config.experts:  # each has steps of its own
    batches.set_state(start)
    result = _fit(config, base, expert, states.get("", {}), batches, heldout,
                  folder)
    tuned[expert] = result.params["lora" if config.lora else "base"]
    seconds += result.seconds
  batches.close()
  checkpoint.save(folder / "checkpoint", tuned, {
      "model": config.model.to_dict(), "lora": settings,
      "source": base.source})
  return {"seconds": seconds} | heldout_lib.compare(
      base, _tuned(base, tuned, settings), heldout, config.sampler,
      folder / "examples.npz")


def _load(config: Any) -> tuple[world_model.Loaded, world_model.Loaded]:
  """(what dreams, on all devices; what encodes, on those of this host)."""
  spec = config.model
  near = sharding.mesh({"fsdp": -1}, jax.local_devices())
  on = sharding.mesh(dict(config.train.mesh))
  parts = world_model.parts(spec)
  experts = models.build("world_models", spec).config.experts
  encoders = world_model.load_base(
      spec, [part for part in parts if part not in experts], near)
  base = world_model.load_base(
      spec, [part for part in parts if not part.startswith("text")], on)
  return dataclasses.replace(
      base, tokenizer=encoders.tokenizer, reader=encoders.params), encoders


def _encoded(config: Any, inputs: dict[str, pathlib.Path],
             base: world_model.Loaded, folder: pathlib.Path
             ) -> list[list[tuple[latents.Latents, float]]]:
  """For each number of frames, the clips that fill it, of each dataset."""
  counts = config.get("frame_buckets") or (base.model.config.frames,)
  cut = {name: latents.buckets(
      inputs[name] / "data", base.model, config.camera, counts)
         for name in ("demonstrations", *sorted(
             inputs.keys() - {"demonstrations", "heldout"}))}
  weights = mix.weights(
      {name: buckets[0][1].episodes for name, buckets in cut.items()},
      config.get("weights"), config.get("shares"))
  found: dict[int, list[tuple[latents.Latents, float]]] = {}
  for name, buckets in cut.items():
    for model, clips in buckets:
      frames = model.config.frames
      found.setdefault(frames, []).append((latents.encode(
          clips, model, base.params, folder / f"latents_{name}_{frames}",
          config.batch_size, base.tokenizer), weights[name]))
  return list(found.values())


def _quantized(base: world_model.Loaded,
               settings: lora.Config) -> world_model.Loaded:
  """The base as it is trained on, evaluated and sampled from."""
  experts = {
      expert: quantize.quantize(base.params[expert], settings.quantize or "")
      for expert in base.model.config.experts}
  was = quantize.size({expert: base.params[expert] for expert in experts})
  print(f"[finetune] the base in {settings.quantize}: "
        f"{quantize.size(experts) / 1e9:.3g} of {was / 1e9:.3g} GB", flush=True)
  return dataclasses.replace(
      base, model=Apart(base.model, settings), params=base.params | experts)


def _tuned(base: world_model.Loaded, tuned: dict[str, Any],
           settings: dict[str, Any] | None) -> world_model.Loaded:
  """The base with what was tuned: merged, or beside what is quantised."""
  params = (base.params | {"lora": tuned} if isinstance(base.model, Apart)
            else world_model.merge(base.params, tuned, settings))
  return dataclasses.replace(base, params=params)


def _fit(config: Any, base: world_model.Loaded, expert: str,
         empty: interfaces.Batch, batches: Any, heldout: heldout_lib.Heldout,
         folder: pathlib.Path) -> train.Result:
  """Trains one expert's adapters, or all of it."""
  settings = dict(config.lora) if config.lora else None
  task = objective(config, base.model, expert)
  rules = models.rules("world_models", config.model)
  params = sharding.lay(
      start(config, base.params[expert], empty, lambda init: sharding.make(
          init, rules, base.on)), rules, base.on)
  with jax.set_mesh(base.on):  # as in training, or it compiles twice
    watch = heldout_lib.Watch(
        task, params, heldout,
        heldout_lib.levels(base.model.config, expert))

  def evaluate(params, step):
    tuned = {expert: params["lora" if settings else "base"]}
    heldout_lib.sample(
        _tuned(base, tuned, settings), heldout, config.sampler,
        folder / "samples" / f"{expert}_{step:06d}.mp4")
    return watch(params, step)

  alone = len(base.model.config.experts) == 1
  return train.fit(
      task, params, batches,
      config.train, folder if alone else folder / expert,
      name=folder.name if alone else f"{folder.name} {expert}",
      rules=rules, evaluate=evaluate)
