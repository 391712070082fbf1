"""Stage: recordings as a world model's autoencoder shows them.

A labeler reads dreams, which are softer than recordings; trained on both the
recordings and these, it does not mind. Reads episodes (RLDS); writes the same
episodes with each camera's frames encoded and decoded, actions and all.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from dreamgen_jax import dreamer, metrics
from dreamgen_jax.data import images, rlds
from dreamgen_jax.stages import world_model


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Shard by shard; a shard that is written is not made again."""
  loaded = world_model.load_base(config.model, parts=("vae",))
  model, c = loaded.model, loaded.model.config
  source = rlds.Dataset(inputs["demonstrations"] / "data")
  index = {name: i for i, name in enumerate(source.ids)}
  progress = metrics.Progress(folder.name, len(index), "episode")
  errors = []

  @jax.jit
  def again(params, video):
    return model.decode(params, model.encode_video(params, video))

  def show(video):
    clips = [images.resize(dreamer.pad(video[i:i + c.frames], c.frames),
                           c.height, c.width)
             for i in range(0, len(video), c.frames)]
    found = np.concatenate([
        np.asarray(again(loaded.params, clip[None]))[0] for clip in clips])
    errors.append(metrics.psnr(found, np.concatenate(clips)))
    return found[:len(video)]

  def make_many(ids):
    for name in ids:
      episode = source.episode(index[name])
      progress.advance()
      yield dataclasses.replace(episode, video={
          camera: show(video) for camera, video in episode.video.items()})

  found = rlds.write(
      folder / "data", folder.name, source.ids, source.embodiment,
      cameras=source.cameras, num_shards=min(config.shards, len(index)),
      digest=f"{loaded.source} {source.digest}", make_many=make_many)
  return {"episodes": len(found), "digest": found.digest,
          "psnr": float(np.mean(errors)) if errors else None}
