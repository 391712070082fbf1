"""Stage 3a: trains an inverse dynamics model on demonstrations.

Reads demonstrations (RLDS with actions), alone or mixed 1:1 with other input
of the same robot, such as themselves as a world model shows them; writes
`checkpoint` with everything that labelling needs: time base, units, cameras,
embodiment. Keys that never move are an error, unless the optional
`config.allow_constant` is set; they are labelled with their constant then.
With `config.state` the labeler learns to decode states, too. It starts afresh,
or from released weights (config.model.source). The episodes of the
demonstrations that `config.leave_out` names are not learnt from; they are what
it is measured on where there is no input `heldout`: by one noise sample as it
learns, by `SAMPLES` in the end, when the spread of its labels is calibrated
there, too: one covers 68 % of the errors.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from dreamgen_jax import agreement, annotator, checkpoint, errors, hosts
from dreamgen_jax.data import (
  catalogue,
  labels,
  loader,
  mix,
  normalize,
  subset,
  windows,
)
from dreamgen_jax.stages import labelers, models, train

SAMPLES = 8  # per window, of which the spread is calibrated


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Trains on frame pairs, measures whole labelled episodes."""
  sources = {name: catalogue.open(path / "data")
             for name, path in inputs.items()}
  heldout = sources.pop("heldout", None)
  if config.get("leave_out"):
    whole = sources["demonstrations"]
    sources["demonstrations"] = subset.subset(whole, config.leave_out, True)
    heldout = heldout or subset.subset(whole, config.leave_out)
  if heldout is None:
    raise errors.ConfigError(
        "A labeler is measured on episodes it has not seen: give it an input "
        "heldout, or name some in config.leave_out.")
  for each in (*sources.values(), heldout):
    missing = [camera for camera in config.cameras
               if camera not in each.cameras]
    if missing:
      raise errors.DataError(
          f"{each.path} has no camera {missing[0]!r}, only "
          f"{', '.join(each.cameras)}; name others in config.cameras.")
  dataset = sources["demonstrations"]
  robot = dataset.embodiment
  time_base = labels.TimeBase(
      control_hz=dataset.clock.control_hz, video_hz=dataset.clock.video_hz,
      **config.time_base)
  decodes = config.get("state", False)
  model = labelers.build(
      config.model, robot, time_base, config.cameras, decodes)
  size = (model.config.camera_size,) * 2
  if robot.id >= model.config.embodiments:
    raise errors.ConfigError(
        f"Embodiment {robot.name!r} has the id {robot.id}, but the labeler has "
        f"weights for {model.config.embodiments} embodiments; set "
        f"model.kw.embodiments to {robot.id + 1} or more.")
  statistics = normalize.compute(dataset)
  constant = config.get("allow_constant", False)
  normalizer = normalize.Normalizer.create(
      robot.action, statistics["action"], allow_constant=constant,
      binary_low=0.0 if config.model.get("source") else -1.0)
  states = normalize.Normalizer.create(
      robot.state, statistics["state"], allow_constant=constant
  ) if decodes else None
  wanted = set(model.example(1))
  weights = mix.weights(sources, config.get("weights"), config.get("shares"))
  batches = loader.loader(
      [(windows.Pairs(
          windows.Memory(source, config.cameras, size),
          cameras=config.cameras, gap=time_base.gap_seconds,
          horizon=time_base.horizon, normalizer=normalizer,
          frames=getattr(model.config, "frames", 2),
          state_normalizer=states), weights[name])
       for name, source in sources.items()],
      config.train.batch_size, config.train.seed,
      **train.share(config.train),
      then=lambda sample: {name: sample[name] for name in wanted})
  facts = {
      "model": config.model.to_dict(), "time_base": time_base.to_dict(),
      "normalizer": normalizer.to_json(), "cameras": list(config.cameras),
      "state": states and states.to_json(),
      "embodiment": dataclasses.asdict(robot)}
  held = windows.Memory(heldout, config.cameras, size)
  measured = np.flatnonzero(held.index["kept"])
  most = config.get("evaluate_episodes", len(measured))
  if most < len(measured):
    measured = measured[np.linspace(0, len(measured) - 1, most).astype(int)]
  truth = [held.episode(i) for i in measured.tolist()]

  def labelled(params, samples):
    with hosts.locally(params) as params:
      found = list(annotator.load(
          facts, model, params, samples=samples, weights="uniform",
          batch_size=64, digest="").label(truth))
    return agreement.stack(list(zip(truth, found, strict=True)))

  def agree(real, found):
    return {f"{kind}/{name}": value for kind, values in agreement.agreement(
        real, found, robot.action).items() for name, value in values.items()}

  def evaluate(params, unused_step):
    return agree(*labelled(params, 1)[:2])

  result = train.fit(
      model, labelers.start(
          config.model, model, jax.random.key(config.train.seed)), batches,
      config.train, folder, name=folder.name, evaluate=evaluate,
      rules=models.rules("labelers", config.model))
  batches.close()
  real, found, spread = labelled(result.params, SAMPLES)
  facts["calibration"] = agreement.calibration(
      real, found, spread, robot.action)
  checkpoint.save(folder / "checkpoint", result.params, facts)
  return {"seconds": result.seconds} | agree(real, found)
