"""Stage 3b: labels videos with pseudo-actions: neural trajectories.

Reads videos (RLDS) and a labeler; writes the same episodes with action, spread
and disagreement. The cameras are those that the labeler learnt from, or
`config.cameras`. `config.stride` and `config.state` are as in
`annotator.Annotator`: by default every frame starts a window, and states are
left unknown, so that whoever reads them sees zeros and a flag.
"""

import pathlib
from typing import Any

from dreamgen_jax import hosts, metrics
from dreamgen_jax.data import catalogue, rlds
from dreamgen_jax.stages import labelers


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Labels episode by episode; one that is written is not labelled again."""
  labeler = labelers.load(inputs["labeler"], config)
  videos = catalogue.open(inputs["videos"] / "data")
  if videos.clock.video_hz != labeler.time_base.video_hz:
    print(f"[{folder.name}] the videos run at {videos.clock.video_hz:g} Hz, "
          f"the labeler learnt {labeler.time_base.video_hz:g} Hz: frames are "
          "taken at the labeler's rate", flush=True)
  index = {name: i for i, name in enumerate(videos.ids)}

  def make_many(ids):
    progress = metrics.Progress(folder.name, len(ids), "episode")
    for name in ids:
      yield from labeler.label([videos.episode(index[name], labeler.cameras)])
      progress.advance()

  chosen = "".join(f" {name}={config[name]}" for name in labelers.OPTIONAL
                   if name in config)
  found = rlds.write(
      folder / "data", folder.name, videos.ids, labeler.embodiment,
      cameras=labeler.cameras, num_shards=min(config.shards, len(index)),
      digest=f"{labeler.digest} {config.samples} {config.weights} "
      f"{videos.digest}{chosen}", make_many=make_many, **hosts.team())
  return {"episodes": len(found), "digest": found.digest}
