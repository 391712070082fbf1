"""Stage 4a: trains a policy on recorded and neural trajectories.

Every input is a dataset of trajectories and gets an equal share of each batch
(DreamGen mixes real and neural 1:1), unless its layout has another weight.
Where a state is unknown the policy sees zeros and, where the policy has one, a
flag. `config.embodiment_ids` may say of an input which of the policy's
embodiments it is, such as one of its own for neural trajectories. Episodes that
a filter rejected are not read, and with `config.doubt` a step counts the less,
the less sure its label is: half where its spread is that part of the actions'
deviation, see `doubt.weights`. Starts afresh, from released weights
(config.model.source), or from another run of this stage (the input `start`),
in whose units it goes on where the keys are the same; `config.lora` trains
adapters, see `adapted`. With `config.slide`, a dict(share=, right=, down=),
pictures move, and positions with them, see `slide.Slide`. Writes `checkpoint`
with units and language settings.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from dreamgen_jax import agent, checkpoint, errors
from dreamgen_jax.data import (
    catalogue,
    doubt,
    loader,
    mix,
    normalize,
    slide,
    windows,
)
from dreamgen_jax.stages import (
    adapted,
    language,
    models,
    policies,
    train,
    validation,
)


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Trains on all inputs, by their weights."""
  watch, earlier = config.get("validation"), inputs.get("start")
  datasets = {name: catalogue.open(path / "data")
              for name, path in sorted(inputs.items()) if name != "start"}
  robots = {dataset.embodiment.action for dataset in datasets.values()}
  if len(robots) > 1:
    raise errors.DataError(
        "The trajectories differ in action keys: " + "; ".join(
            f"{name}: {[key.name for key in dataset.embodiment.action]}"
            for name, dataset in datasets.items()))
  if watch and watch.get("heldout") not in (None, *datasets):
    raise errors.ConfigError(
        f"validation.heldout = {watch.heldout!r} is none of the inputs; have: "
        f"{', '.join(datasets)}.")
  held = watch and watch.get("heldout") and datasets.pop(watch.heldout)
  robot = next(iter(datasets.values())).embodiment
  computed = [normalize.compute(dataset) for dataset in datasets.values()]
  statistics = {
      kind: _widest([each[kind] for each in computed if kind in each])
      for kind in ("action", "state")}
  words = language.load(config.text)
  model = policies.build(config.model, robot, config.cameras, words)
  c = model.config
  units = policies.units(earlier) if earlier else {}
  rule = dict(allow_constant=config.get("allow_constant", False),
              zero_range=config.get("zero_range", "groot"))

  def normalizer(kind, own):
    keys, known = policies.keys(own, c), units.get(kind)
    if known and known.keys == keys:
      return known
    return statistics[kind] and normalize.Normalizer.create(
        keys, statistics[kind], **rule)

  action = normalizer("action", robot.action)
  state = normalizer("state", robot.state)
  slides = config.get("slide")
  if slides and len(config.cameras) > 1:
    raise errors.ConfigError(
        f"slide knows how one camera stands, and cameras = "
        f"{tuple(config.cameras)}; name one, or leave slide out.")
  vary = slide.Slide(**slides, action=action, state=state) if slides else None
  ids = dict(config.get("embodiment_ids") or {})
  own = {name: dataset.embodiment.id for name, dataset in datasets.items()}
  acting = policies.acting(robot, policies.embodiments(model, own, ids))
  weigh = None
  if config.get("doubt"):
    def weigh(episode):
      if episode.spread is None:
        return np.ones(len(episode.action))
      return doubt.weights(
          episode.spread, statistics["action"].std, config.doubt)

  def observed(dataset, row):
    return windows.Observations(
        windows.Memory(dataset, config.cameras, c.image_size),
        cameras=config.cameras, horizon=c.horizon, history=c.n_obs_steps,
        first_action=1 - c.n_obs_steps, state_normalizer=state,
        action_normalizer=action, embodiment_id=row, weigh=weigh)

  weights = mix.weights(datasets, config.get("weights"), config.get("shares"))
  sources = [(observed(dataset, ids.get(name)), weights[name])
             for name, dataset in datasets.items()]
  wanted = {*model.example(1), *(["weight"] if weigh else [])}

  def prepare(sample):
    read = model.read(words, [sample["instruction"]], sample["state"][None])
    sample = sample | {name: leaf[0] for name, leaf in read.items()}
    policies.check_embodiment(model, int(sample["embodiment"]), sample["id"])
    return {name: sample[name] for name in wanted}

  batches = loader.loader(
      sources, config.train.batch_size, config.train.seed, then=prepare,
      vary=vary, **train.share(config.train))
  rng, objective = jax.random.key(config.train.seed), model
  params = policies.start(config.model, model, rng, earlier)
  if config.get("lora"):
    objective = adapted.adapt(model, config.lora)
    params = objective.start(
        params, rng, config.train.trainable, config.get("frozen_dtype"))
  best = watch and validation.Validation(
      watch, agent.Agent(model, None, action, state, words, acting, robot),
      [prepare(sample) for sample in validation.spread(
          observed(held, acting), watch.samples)] if held else (), folder)

  def evaluate(params, step):
    return best(objective.merged(params) if config.get("lora") else params,
                step)

  result = train.fit(
      objective, params, batches, config.train, folder, name=folder.name,
      evaluate=evaluate if best else None,
      rules=[*models.rules("policies", config.model), (r"lora_[ab]$", ())])
  batches.close()
  trained = result.params
  if config.get("lora"):
    trained = objective.merged(trained)
  facts = {}
  if best:
    trained, facts["best_step"] = best.best()
  checkpoint.save(folder / "checkpoint", trained, {
      "model": config.model.to_dict(), "text": config.text.to_dict(),
      "cameras": list(config.cameras),
      "embodiment": dataclasses.asdict(robot), "embodiment_id": acting,
      "action": action.to_json(), "state": state and state.to_json()})
  losses = [row["loss"] for row in result.history if "loss" in row]
  return facts | {
      "seconds": result.seconds, "loss": losses[-1],
      "windows": {name: len(source) for name, (source, _) in
                  zip(datasets, sources, strict=True)}}


def _widest(found: list[normalize.Statistics]) -> normalize.Statistics | None:
  """Statistics that cover all of several; None of none."""
  if not found:
    return None
  weight = np.array([s.count for s in found], np.float64)
  weight /= weight.sum()
  mean = sum(w * s.mean for w, s in zip(weight, found, strict=True))
  square = sum(w * (s.std**2 + s.mean**2)
               for w, s in zip(weight, found, strict=True))
  return normalize.Statistics(
      mean=mean, std=np.sqrt(np.maximum(square - mean**2, 0)),
      min=np.min([s.min for s in found], axis=0),
      max=np.max([s.max for s in found], axis=0),
      q01=np.min([s.q01 for s in found], axis=0),
      q99=np.max([s.q99 for s in found], axis=0),
      count=sum(s.count for s in found))
