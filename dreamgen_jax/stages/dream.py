"""Stage 2: dreams a video for every prompt.

Reads prompts (RLDS) and a tuned world model, onto which config.adapters may
stack more (see `stages.adapters`); writes episodes of origin "dream" that have
a video and an instruction, and no actions yet. A model that is told its last
frame takes that of a prompt's frames.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from dreamgen_jax import errors, hosts, metrics, types
from dreamgen_jax.data import rlds, views
from dreamgen_jax.stages import world_model


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Dreams batch by batch; what is finished is not dreamed again."""
  loaded = world_model.load_tuned(
      inputs["world_model"], config.get("adapters", ()),
      world_model.mesh(config))
  dreamer = world_model.make_dreamer(loaded, config)
  prompts = rlds.Dataset(inputs["prompts"] / "data")
  sampler = world_model.sampler(dreamer)
  c, view = loaded.model.config, views.View.of(config.camera)
  if c.sees_last_frame and prompts.index["frames"].min() < 2:
    raise errors.DataError(
        f"This world model dreams between two frames, and {prompts.path} holds "
        "prompts of one frame: it must have the goal as their last frame.")
  clock = types.Clock(c.video_hz, prompts.clock.control_hz)
  index = {name: i for i, name in enumerate(prompts.ids)}

  def load(i):
    ends = [0, prompts.index["frames"][i] - 1]
    return prompts.episode(i, view.named, ends[:1 + c.sees_last_frame])

  def make_many(ids):
    progress = metrics.Progress(folder.name, len(ids), "dream")
    for begin in range(0, len(ids), config.batch_size):
      part = [load(index[name])
              for name in ids[begin:begin + config.batch_size]]
      frames = np.stack([
          view.compose(prompt.video, (c.height, c.width))
          for prompt in part])  # n f h w 3
      videos = dreamer.dream(
          frames[:, 0], [view.prompt(prompt.instruction) for prompt in part],
          [prompt.origin.seed for prompt in part],
          frames[:, -1] if c.sees_last_frame else None)
      progress.advance(len(part))
      for prompt, video in zip(part, videos, strict=True):
        yield dataclasses.replace(
            prompt, video=view.split(video), clock=clock, state=None,
            action=None, success=None, origin=types.Origin(
                kind="dream", dataset=prompts.digest[:16],
                source_id=prompt.id, world_model=loaded.source,
                adapter=loaded.adapter, sampler=sampler,
                seed=prompt.origin.seed))

  dreams = rlds.write(
      folder / "data", folder.name, prompts.ids, prompts.embodiment,
      cameras=list(view.named), num_shards=min(config.shards, len(index)),
      digest=f"{loaded.source} {loaded.adapter} {sampler} {prompts.digest}",
      make_many=make_many, **hosts.team())
  return {"dreams": len(dreams), "digest": dreams.digest}
