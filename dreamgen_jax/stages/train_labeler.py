"""Stage 3a: trains an inverse dynamics model on demonstrations.

Reads demonstrations (RLDS with actions), alone or mixed 1:1 with other input
of the same robot, such as themselves as a world model shows them; writes
`checkpoint` with everything that labelling needs: time base, units, cameras,
embodiment. Action keys that
never move are an error, unless the optional `config.allow_constant` is set;
they are labelled with their constant then.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from dreamgen_jax import annotator, checkpoint, errors
from dreamgen_jax.data import labels, loader, normalize, rlds, windows
from dreamgen_jax.stages import labelers, models, train

_FIELDS = ("images", "action", "mask", "embodiment")


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Trains on frame pairs, measures whole labelled episodes."""
  dataset = rlds.Dataset(inputs["demonstrations"] / "data")
  robot = dataset.embodiment
  time_base = labels.TimeBase(
      control_hz=dataset.clock.control_hz, video_hz=dataset.clock.video_hz,
      **config.time_base)
  model = labelers.build(config.model, robot, time_base, config.cameras)
  size = (model.config.camera_size,) * 2
  if robot.id >= model.config.embodiments:
    raise errors.ConfigError(
        f"Embodiment {robot.name!r} has the id {robot.id}, but the labeler has "
        f"weights for {model.config.embodiments} embodiments; set "
        f"model.kw.embodiments to {robot.id + 1} or more.")
  normalizer = normalize.Normalizer.create(
      robot.action, normalize.compute(dataset)["action"],
      allow_constant=config.get("allow_constant", False))
  sources = [rlds.Dataset(path / "data") for name, path in inputs.items()
             if name != "heldout"]
  batches = loader.loader(
      [(windows.Pairs(
          windows.Memory(source, config.cameras, size),
          cameras=config.cameras, gap=time_base.gap_seconds,
          horizon=time_base.horizon, normalizer=normalizer), 1.0)
       for source in sources], config.train.batch_size, config.train.seed,
      then=lambda sample: {name: sample[name] for name in _FIELDS})
  facts = {
      "model": config.model.to_dict(), "time_base": time_base.to_dict(),
      "normalizer": normalizer.to_json(), "cameras": list(config.cameras),
      "embodiment": dataclasses.asdict(robot)}
  heldout = windows.Memory(
      rlds.Dataset(inputs["heldout"] / "data"), config.cameras, size)
  truth = [heldout.episode(i) for i in range(len(heldout))]

  def evaluate(params, unused_step=0):
    labelled = list(annotator.load(
        facts, model, params, samples=1, weights="uniform", batch_size=64,
        digest="").label(truth))
    found = annotator.agreement(
        np.concatenate([e.action for e in truth]),
        np.concatenate([e.action for e in labelled]), robot.action)
    return {f"{kind}/{name}": value for kind, values in found.items()
            for name, value in values.items()}

  result = train.fit(
      model, model.init(jax.random.key(config.train.seed)), batches,
      config.train, folder, name=folder.name, evaluate=evaluate,
      rules=models.rules("labelers", config.model))
  batches.close()
  checkpoint.save(folder / "checkpoint", result.params, facts)
  return {"seconds": result.seconds} | evaluate(result.params)
