"""Stage 3b: labels videos with pseudo-actions: neural trajectories.

Reads videos (RLDS) and a labeler; writes the same episodes with action and
spread. State is left unknown: whoever reads them sees zeros and a flag. The
cameras are those that the labeler learnt from, or `config.cameras`.
"""

import dataclasses
import pathlib
from typing import Any

from dreamgen_jax import annotator, checkpoint, metrics
from dreamgen_jax.data import dataset, images, labels, rlds
from dreamgen_jax.stages import artefact, labelers


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Labels shard by shard; a shard that is written is not labelled again."""
  params, facts = checkpoint.load(inputs["labeler"] / "checkpoint")
  digest = artefact.digest(inputs["labeler"] / "checkpoint")[:16]
  robot = dataset.embodiment_from_dict(facts["embodiment"])
  facts["cameras"] = list(config.get("cameras") or facts["cameras"])
  model = labelers.build(
      facts["model"], robot, labels.TimeBase.from_dict(facts["time_base"]),
      facts["cameras"])
  labeler = annotator.load(
      facts, model, params, samples=config.samples, weights=config.weights,
      batch_size=config.batch_size, digest=digest)
  videos = rlds.Dataset(inputs["videos"] / "data")
  if videos.clock.video_hz != labeler.time_base.video_hz:
    print(f"[{folder.name}] the videos run at {videos.clock.video_hz:g} Hz, "
          f"the labeler learnt {labeler.time_base.video_hz:g} Hz: frames are "
          "taken at the labeler's rate", flush=True)
  index = {name: i for i, name in enumerate(videos.ids)}
  size = (model.config.camera_size,) * 2
  progress = metrics.Progress(folder.name, len(index), "episode")

  def make_many(ids):
    for name in ids:
      episode = videos.episode(index[name], facts["cameras"])
      small = dataclasses.replace(episode, video={
          camera: images.resize(frames, *size)
          for camera, frames in episode.video.items()})
      (labelled,) = labeler.label([small])
      progress.advance()
      yield dataclasses.replace(labelled, video=episode.video)

  found = rlds.write(
      folder / "data", folder.name, videos.ids, robot,
      cameras=facts["cameras"], num_shards=min(config.shards, len(index)),
      digest=f"{digest} {config.samples} {config.weights} {videos.digest}",
      make_many=make_many)
  return {"episodes": len(found), "digest": found.digest}
