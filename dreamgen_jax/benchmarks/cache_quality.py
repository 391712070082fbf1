"""What skipping blocks by a fixed schedule costs in quality, and saves.

  python -m dreamgen_jax.benchmarks.cache_quality --data=DIR [--family=wan]
      [--preset=nano] [--source=nano] [--clips=8] [--steps=20] [--guidance=1]
      [--thresholds=0.05,0.1,0.2] [--longest=1,2,4]

Measures the ratios of `diffusion.reuse` on the first clip, with the weights at
hand, and prints them, to be pasted into a config as sampling.reuse.ratios.
Then dreams of the first frames of a dataset (the folder of its shards, of
prompts or demonstrations) with every block and by each schedule, and compares
with the former: network calls whose blocks ran, PSNR, and PSNR of a sampler
that takes no more steps than that, and runs every block at each.
"""

import dataclasses
import itertools
import pathlib
import sys
from typing import Any

import jax
import numpy as np

from dreamgen_jax import dreamer, interfaces, metrics, options, registry
from dreamgen_jax.data import rlds, views
from dreamgen_jax.diffusion import reuse
from dreamgen_jax.stages import models

OPTIONS = {
    "data": (None, "folder of a dataset's shards; its first frames are dreamt"),
    "family": ("wan", "of the world model"),
    "preset": ("nano", "of the world model"),
    "source": ("nano", "its weights: a folder, or the name of shipped ones"),
    "camera": ("front", "of the dataset"),
    "clips": (8, "how many"),
    "steps": (20, "of the sampler"),
    "guidance": (1.0, "of the sampler"),
    "thresholds": ("0.05,0.1,0.2", "see `reuse.Config`"),
    "longest": ("1,2,4", "see `reuse.Config`"),
}
MOST = 1000  # network calls of a sampler


@options.program(__doc__, OPTIONS)
def main(given: Any) -> None:
  """Runs the program."""
  spec = {"name": given.family, "preset": given.preset}
  config = models.build("world_models", spec).config
  module = registry.find("world_models", given.family)
  model, params, tokenizer = module.load(given.source, config)
  frames, prompts = first_frames(
      pathlib.Path(str(given.data)), model, given.camera, given.clips)
  settings = {"steps": given.steps, "guidance": given.guidance}
  text, empty = (dreamer.encode_prompts(model, params, tokenizer, each, frames)
                 for each in (prompts, [model.config.negative] * len(prompts)))
  clips = (params, frames, text, empty)
  one = (params, *jax.tree.map(lambda x: x[:1], clips[1:]))
  ratios = calibrate(model, *one, **settings)
  print("ratios:", ", ".join(f"{ratio:.4f}" for ratio in ratios), flush=True)
  calls, whole = len(ratios), dream(model, *clips, **settings)
  print(f"{'threshold':>9} {'longest':>7} {'calls':>8} {'PSNR':>6} "
        f"{'fewer steps':>11}", flush=True)
  seen = set()
  for longest, threshold in itertools.product(
      map(int, given.longest.split(",")),
      map(float, given.thresholds.split(","))):
    skipping = reuse.Config(ratios, threshold, longest)
    plan = tuple(reuse.plan(skipping, calls))
    skipped = sum(factor > 0 for factor in plan)
    if not skipped or plan in seen:  # as a line above
      continue
    seen.add(plan)
    sized = dataclasses.replace(model, config=dataclasses.replace(
        model.config, reuse=skipping))
    fewer = settings | {"steps": settings["steps"] - skipped}
    found, plain = (
        metrics.psnr(video[:, 1:], whole[:, 1:]) for video in (
            dream(sized, *clips, **settings), dream(model, *clips, **fewer)))
    print(f"{threshold:9g} {longest:7} {calls - skipped:2} of {calls:2} "
          f"{found:6.1f} {plain:11.1f}", flush=True)


def first_frames(path: pathlib.Path, model: interfaces.WorldModel, camera: str,
                 count: int) -> tuple[np.ndarray, list[str]]:
  """(u8[n,h,w,3], prompts) of a dataset's first episodes."""
  data, view = rlds.Dataset(path), views.View.of(camera)
  c = model.config
  episodes = [data.episode(i, view.named, [0])
              for i in range(min(count, len(data)))]
  frames = np.concatenate([
      view.compose(episode.video, (c.height, c.width)) for episode in episodes])
  return frames, [view.prompt(episode.instruction) for episode in episodes]


def calibrate(model: interfaces.WorldModel, params: interfaces.Params,
              frames: np.ndarray, text: interfaces.Batch,
              empty: interfaces.Batch, **settings: Any) -> tuple[float, ...]:
  """What `reuse.Config.ratios` asks for, by one dream with every block."""
  @jax.jit
  def run(*inputs):
    memory = reuse.Memory(np.zeros(MOST))
    video = model.generate(inputs[0], _keys(frames), *inputs[1:],
                           memory=memory, **settings)
    return video, memory.ratios()

  _, (calls, ratios) = run(params, frames, text, empty)
  return tuple(np.asarray(ratios)[:int(calls)].tolist())


def dream(model: interfaces.WorldModel, params: interfaces.Params,
          frames: np.ndarray, text: interfaces.Batch, empty: interfaces.Batch,
          **settings: Any) -> np.ndarray:
  """Videos u8[n,f,h,w,3]."""
  run = jax.jit(lambda *inputs: model.generate(
      inputs[0], _keys(frames), *inputs[1:], **settings))
  return np.asarray(run(params, frames, text, empty))


def _keys(frames):
  """The same noise each time."""
  return jax.vmap(jax.random.key)(np.arange(len(frames)))


if __name__ == "__main__":
  sys.exit(main())
