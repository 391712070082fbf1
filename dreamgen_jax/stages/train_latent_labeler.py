"""Stage 3a, without actions: trains a labeler of latent actions on videos.

Every input but `heldout` and `start` is a dataset of videos, of whatever robot
and rate; `data.mix.weights` says in what proportions. Pairs of frames lie
`config.time_base.gap_seconds` apart by each dataset's own clock. `start` is a
released file, or another run of this stage; with no training steps it is only
measured, and made ready for labelling.

Writes `checkpoint`, with what labelling needs, as `train_labeler` does. The
embodiment is `embodiments/latent.py` at the latent's width.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax import (
  checkpoint,
  dreamer,
  errors,
  hosts,
  interfaces,
  metrics,
  registry,
  types,
)
from dreamgen_jax.data import (
    catalogue,
    labels,
    loader,
    mix,
    normalize,
    rlds,
    windows,
)
from dreamgen_jax.stages import models, train

_NOT_TRAINED_ON = ("heldout", "start")


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Trains on pairs of frames; measures prediction and use of codes."""
  labeler = registry.find("labelers", config.model.name)
  model = models.build("labelers", config.model)
  rate = config.time_base.video_hz
  time_base = labels.TimeBase(
      control_hz=rate, video_hz=rate, horizon=1,
      gap_seconds=config.time_base.gap_seconds)

  def pairs(name):
    return _pairs(catalogue.open(inputs[name] / "data"), _camera(config, name),
                  model.config.camera_size, time_base.gap_seconds,
                  config.in_memory)

  sources = {name: pairs(name) for name in inputs
             if name not in _NOT_TRAINED_ON}
  weights = mix.weights(
      {name: source.episodes for name, source in sources.items()},
      config.get("weights"), config.get("shares"))
  heldout = pairs("heldout")
  params = _start(labeler, model, inputs.get("start"), config.train.seed)
  seconds = 0.0

  def evaluate(params, unused_step=0):
    with hosts.locally(params) as params:
      return _measure(model, params, heldout, config.evaluate_pairs,
                      config.batch_size)[0]

  if config.train.steps:
    batches = loader.loader(
        [(source, weights[name]) for name, source in sources.items()],
        config.train.batch_size, config.train.seed,
        then=lambda sample: {"images": sample["images"]},
        **train.share(config.train))
    result = train.fit(
        model, params, batches, config.train, folder, name=folder.name,
        evaluate=evaluate, rules=labeler.RULES, upkeep=model)
    batches.close()
    params, seconds = hosts.local(result.params), result.seconds
  found, statistics = _measure(
      model, params, heldout, config.evaluate_pairs, config.batch_size)
  robot = _embodiment(model, time_base, _camera(config, "heldout"))
  checkpoint.save(folder / "checkpoint", params, {
      "model": config.model.to_dict(), "time_base": time_base.to_dict(),
      "cameras": [_camera(config, "heldout")], "whole": True,
      "embodiment": dataclasses.asdict(robot),
      # Labels are the latents as they are; policies normalise them.
      "normalizer": normalize.Normalizer.create(
          [dataclasses.replace(key, normalize="identity")
           for key in robot.action], statistics).to_json()})
  return {"seconds": seconds} | found


def _camera(config: Any, name: str) -> str:
  """The camera of an input, where `config.camera` tells them apart."""
  if isinstance(config.camera, str):
    return config.camera
  if name not in config.camera:
    raise errors.ConfigError(
        f"config.camera says nothing of the input {name!r}, only of "
        f"{', '.join(config.camera)}; name one for each, or one for all.")
  return config.camera[name]


def _pairs(videos: rlds.Dataset, camera: str, side: int, gap: float,
           in_memory: bool) -> windows.Pairs:
  if camera not in videos.cameras:
    raise errors.DataError(
        f"{videos.path} has no camera {camera!r}, only "
        f"{', '.join(videos.cameras)}.")
  size = (side, side)
  held: Any = windows.Memory(videos, (camera,), size) if in_memory else videos
  return windows.Pairs(held, cameras=(camera,), gap=gap, horizon=0,
                       padded=False, size=size)


def _start(labeler: Any, model: Any, source: pathlib.Path | None,
           seed: int) -> interfaces.Params:
  """Fresh parameters, or those of a released file or a run of this stage."""
  if source is None:
    return jax.jit(model.init)(jax.random.key(seed))
  if (source / "checkpoint").is_dir():
    return checkpoint.load(
        source / "checkpoint",
        jax.eval_shape(model.init, jax.random.key(0)))[0]
  return labeler.load(source, model.config)


def _embodiment(model: Any, time_base: labels.TimeBase,
                camera: str) -> types.Embodiment:
  latent, c = registry.find("embodiments", "latent").EMBODIMENT, model.config
  (key,) = latent.action
  return dataclasses.replace(
      latent, cameras={camera: "front"},
      action=(dataclasses.replace(
          key, dims=c.latent_dim,
          # Numbers of codes are spread over [-1, 1] as they are.
          normalize="identity" if c.as_codes else key.normalize),),
      clock=types.Clock(time_base.video_hz, time_base.control_hz))


def _measure(model: Any, params: Any, pairs: windows.Pairs, most: int,
             batch_size: int
             ) -> tuple[dict[str, float], normalize.Statistics]:
  """Predictions from up to `most` pairs, and statistics of their latents.

  Returns:
    (scalars, statistics). PSNR in dB: "psnr" of the second frame as the codes
    predict it, "psnr_other" with another pair's codes, "psnr_still" of the
    first frame taken for the second; and `codebook.usage` of all pairs.
  """
  count = min(most, len(pairs))
  rows = np.linspace(0, len(pairs) - 1, count).round().astype(int)

  found, strange, first, second, latent, index = [], [], [], [], [], []
  other = np.zeros((batch_size, model.config.slots), np.int32)
  for begin in range(0, count, batch_size):
    images = np.stack([
        pairs[row]["images"] for row in rows[begin:begin + batch_size]])
    size = len(images)
    results = _look(model)(params, dreamer.pad(images, batch_size), other)
    other = np.roll(results[-1], 1, axis=0)
    for all_of_it, part in zip(
        (found, strange, latent, index), results, strict=True):
      all_of_it.append(np.asarray(part[:size]))
    first.append(images[:, 0, 0])
    second.append(images[:, 1, 0])
  truth = np.concatenate(second)
  sums = normalize.Accumulator(model.config.latent_dim)
  sums.add(np.concatenate(latent))
  pixels = {
      "psnr": 255 * np.concatenate(found),
      "psnr_other": 255 * np.concatenate(strange),
      "psnr_still": np.concatenate(first),
  }
  scalars = {name: metrics.psnr(truth, picture)
             for name, picture in pixels.items()}
  return scalars | {
      name: float(value) for name, value in
      model.usage(np.concatenate(index)).items()}, sums.result()


@functools.cache
def _look(model: Any) -> Any:
  """Predictions by a pair's own codes and by others, latents, indices."""

  @jax.jit
  def look(params, images, other):
    latent, first = model.encode(params, model.frames(images))
    index = model.nearest(params, latent)
    found = model.decode(
        params, params["codebook"][jnp.concatenate([index, other])],
        jnp.concatenate([first, first]))
    return (*jnp.split(found, 2), latent.reshape(len(latent), -1), index)

  return look
