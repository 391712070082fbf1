"""Stage 3b: labels videos with pseudo-actions: neural trajectories.

Reads videos (RLDS) and a labeler; writes the same episodes with action, spread
and disagreement. The cameras are those that the labeler learnt from, or
`config.cameras`. `config.stride` and `config.state` are as in
`annotator.Annotator`: by default every frame starts a window, and states are
left unknown, so that whoever reads them sees zeros and a flag.
"""

import dataclasses
import pathlib
from typing import Any

from dreamgen_jax import annotator, checkpoint, hosts, metrics
from dreamgen_jax.data import dataset, images, labels, rlds
from dreamgen_jax.stages import artefact, labelers


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Labels one by one; what is finished is not labelled again."""
  params, facts = checkpoint.load(inputs["labeler"] / "checkpoint")
  digest = artefact.digest(inputs["labeler"] / "checkpoint")[:16]
  robot = dataset.embodiment_from_dict(facts["embodiment"])
  facts["cameras"] = list(config.get("cameras") or facts["cameras"])
  model = labelers.build(
      facts["model"], robot, labels.TimeBase.from_dict(facts["time_base"]),
      facts["cameras"], facts.get("state") is not None)
  chosen = {name: config[name] for name in ("stride", "state")
            if name in config}
  labeler = annotator.load(
      facts, model, params, samples=config.samples, weights=config.weights,
      batch_size=config.batch_size, digest=digest, **chosen)
  videos = rlds.Dataset(inputs["videos"] / "data")
  if videos.clock.video_hz != labeler.time_base.video_hz:
    print(f"[{folder.name}] the videos run at {videos.clock.video_hz:g} Hz, "
          f"the labeler learnt {labeler.time_base.video_hz:g} Hz: frames are "
          "taken at the labeler's rate", flush=True)
  index = {name: i for i, name in enumerate(videos.ids)}
  size = (model.config.camera_size,) * 2

  def make_many(ids):
    progress = metrics.Progress(folder.name, len(ids), "episode")
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
      digest=f"{digest} {config.samples} {config.weights} {videos.digest}"
      + "".join(f" {name}={value}" for name, value in chosen.items()),
      make_many=make_many, **hosts.team())
  return {"episodes": len(found), "digest": found.digest}
