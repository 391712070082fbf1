"""The real step of each stage, for shapes and no data.

Each builder calls the functions that its stage runs. The robot, which a stage
knows from its datasets, is given by name.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dreamgen_jax import (
    dreamer,
    errors,
    flops,
    interfaces,
    optim,
    quantize,
    registry,
    sharding,
)
from dreamgen_jax.data import labels
from dreamgen_jax.stages import (
    adapted,
    finetune,
    labelers,
    models,
    policies,
    train,
    world_model,
)

Tree = Any


@dataclasses.dataclass(frozen=True)
class Program:
  """One program that a stage compiles.

  Attributes:
    name: for the plan.
    function: of `arguments`, trees of jax.ShapeDtypeStruct that lie on a mesh.
    useful: (function, arguments) of the same work without a mesh and without
      recomputation, to count the operations of.
    donated: places of the arguments whose memory it takes over.
    lies: shardings of what it returns; None leaves them to the compiler.
    times: how often it runs in a step.
  """

  name: str
  function: Callable[..., Any]
  arguments: tuple[Tree, ...]
  useful: tuple[Callable[..., Any], tuple[Tree, ...]]
  donated: tuple[int, ...] = ()
  lies: Any = None
  times: int = 1


@dataclasses.dataclass(frozen=True)
class Step:
  """What a stage does again and again.

  Attributes:
    programs: the step's; the first is the one to save.
    mesh: on which they run.
    samples: clips, or windows, that one step deals with.
    calls: steps in the whole stage; None where the data decide.
  """

  programs: tuple[Program, ...]
  mesh: jax.sharding.Mesh
  samples: int
  calls: int | None


def build(config: Any, sizes: Mapping[str, int] | None,
          devices: Any, robot: str | None = None) -> Step:
  """The step of the stage that a config's section describes.

  Args:
    config: the section.
    sizes: of the mesh, instead of the section's.
    devices: what the mesh is made of.
    robot: an embodiment's name, which labelers and policies need.

  Raises:
    ConfigError: the stage has no step that is compiled for many devices, or
      it needs a robot.
  """
  if config.stage not in BUILDERS:
    raise errors.ConfigError(
        f"The stage {config.stage!r} cannot be planned; these can: "
        f"{', '.join(BUILDERS)}.")
  own = config.train.mesh if "train" in config else config.get("mesh", {})
  on = sharding.mesh(dict(sizes or own), devices)
  return BUILDERS[config.stage](config, on, robot)


def _training(config: Any, objective: interfaces.Objective, params: Tree,
              batch: Tree, rules: list, on: Any) -> Step:
  state, frozen = jax.eval_shape(
      lambda params: train.initial(params, config.train), params)
  rules = [*rules, *train.RULES]
  lay = lambda tree: _laid(tree, sharding.by_rules(tree, rules, on))  # noqa: E731
  rows = config.train.batch_size
  extent = on.shape["data"] * on.shape["fsdp"]
  if rows % extent:
    raise errors.ConfigError(
        f"train.batch_size = {rows} is not divisible by data * fsdp = "
        f"{extent} of the mesh.")
  split = jax.sharding.NamedSharding(on, sharding.P(("data", "fsdp")))
  laid_batch = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype,
                                        sharding=split), batch)
  fault = _whole(jax.ShapeDtypeStruct((2,), jnp.int32), on)
  trained, kept = optim.partition(params, config.train.trainable)

  return Step((Program(
      "the step", train.program(objective, config.train),
      (lay(state), fault, lay(frozen), laid_batch),
      (train.gradient(flops.plain(objective)), (trained, kept, batch)), (0,),
      (sharding.by_rules(state, rules, on), None, None)),
  ), on, rows, config.train.steps)


def _finetune(config: Any, on: Any, robot: str | None) -> Step:
  del robot
  model = models.build("world_models", config.model)
  expert = model.config.experts[0]  # they are alike
  rows = config.train.batch_size
  batch = model.example(rows)
  base = _parameters(model, config.model)[expert]
  if config.lora and config.lora.get("quantize"):
    base = quantize.shapes(base, config.lora["quantize"])
  text = set(model.example(1)) - {"latent", "condition", "image"}
  empty = {name: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
           for name, leaf in batch.items() if name in text}
  params = jax.eval_shape(
      lambda base, empty: finetune.start(config, base, empty), base, empty)
  return _training(
      config, finetune.objective(config, model, expert), params, batch,
      models.rules("world_models", config.model), on)


def _dream(config: Any, on: Any, robot: str | None) -> Step:
  """In parts, which the run compiles as one: they tell their shares so."""
  del robot
  model = models.replaced(models.build("world_models", config.model),
                          config.get("sampling", {}), "sampling")
  c, rows = model.config, config.batch_size
  params = _parameters(model, config.model)
  laid = _laid(params, sharding.by_rules(
      params, models.rules("world_models", config.model), on))
  example = model.example(rows)
  text = {name: leaf for name, leaf in example.items()
          if name not in ("latent", "condition", "image")}
  frames = jax.ShapeDtypeStruct((rows, c.height, c.width, 3), jnp.uint8)
  told = {"last": frames} if c.sees_last_frame else {}
  ends = (frames, *told.values())
  given = jax.eval_shape(model.encode_frame, params, *ends)
  seeds = jax.ShapeDtypeStruct((rows,), jnp.uint32)
  clip = jax.ShapeDtypeStruct((), jnp.int32)
  ids = jax.ShapeDtypeStruct(text["text"].shape[:2], jnp.int32)
  mask = jax.ShapeDtypeStruct(ids.shape, jnp.bool)
  clips = config.get("clips", 1)

  def part(name, function, inputs, times=clips):
    return Program(name, function, (laid, *_whole(inputs, on)),
                   (function, (params, *inputs)), times=times)

  denoise = dreamer.program(_denoiser(model), config.steps, config.guidance)
  parts = [
      part("denoising", denoise, (seeds, given, text, text, told, clip)),
      part("the first frame", model.encode_frame, ends),
      part("the decoder", model.decode, (example["latent"],))]
  if not c.text_sees_frame:  # of the prompt and of the negative one
    parts.append(part("the text", model.encode_text,
                      ({"ids": ids, "mask": mask}, None), 2))
  return Step(tuple(parts), on, rows * clips, None)


def _denoiser(model: Any) -> Any:
  """The model without its autoencoder: latents in, a latent out."""
  return type("Denoiser", (type(model),), {
      "encode_frame": lambda self, params, given, *last: given,
      "decode": lambda self, params, latent: latent})(model.config)


def _labeler(config: Any, on: Any, robot: str | None) -> Step:
  body = _embodiment(config, robot)
  model = labelers.build(
      config.model, body, labels.TimeBase(
          control_hz=body.clock.control_hz, video_hz=body.clock.video_hz,
          **config.time_base), config.cameras, config.get("state", False))
  params = jax.eval_shape(lambda: model.init(jax.random.key(0)))
  return _training(
      config, model, params, model.example(config.train.batch_size),
      models.rules("labelers", config.model), on)


def _policy(config: Any, on: Any, robot: str | None) -> Step:
  body = _embodiment(config, robot)
  words: Any = Words(
      0 if "tokenizer" in config.text else models.build(
          "world_models", config.text).example(1)["text"].shape[-1])
  model = policies.build(config.model, body, config.cameras, words)
  objective: Any = adapted.adapt(
      model, config.lora) if config.get("lora") else model

  def start():
    rng = jax.random.key(0)
    params = model.init(rng)
    return params if objective is model else objective.start(
        params, rng, config.train.trainable, config.get("frozen_dtype"))

  return _training(
      config, objective, jax.eval_shape(start),
      model.example(config.train.batch_size),
      [*models.rules("policies", config.model), (r"lora_[ab]$", ())], on)


@dataclasses.dataclass(frozen=True)
class Words:
  """As much of an `agent.Language` as a policy is built from."""

  text_dim: int


def _embodiment(config: Any, robot: str | None) -> Any:
  if robot is None:
    raise errors.ConfigError(
        f"The stage {config.stage!r} knows its robot from its datasets; name "
        "it by --robot, such as gr1.")
  return registry.find("embodiments", robot).EMBODIMENT


BUILDERS: dict[str, Callable[[Any, Any, str | None], Step]] = {
    "finetune": _finetune, "dream": _dream, "train_labeler": _labeler,
    "train_policy": _policy}


def _parameters(model: Any, spec: Mapping[str, Any]) -> Tree:
  params = jax.eval_shape(lambda: model.init(jax.random.key(0)))
  for part, dtype in world_model.held(spec, model.config).items():
    params[part] = jax.tree.map(
        lambda leaf, dtype=dtype: jax.ShapeDtypeStruct(leaf.shape, dtype),
        params[part])
  return params


def _laid(tree: Tree, shardings: Tree) -> Tree:
  return jax.tree.map(
      lambda leaf, how: jax.ShapeDtypeStruct(
          leaf.shape, leaf.dtype, sharding=how), tree, shardings)


def _whole(tree: Tree, on: Any) -> Tree:
  how = jax.sharding.NamedSharding(on, sharding.P())
  return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=how), tree)
