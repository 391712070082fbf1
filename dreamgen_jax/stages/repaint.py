"""Stage: recordings as a world model would have dreamed them.

A labeler reads dreams, which are softer than recordings and paint the robot
less exactly; trained on both the recordings and these, it does not mind.
Reads episodes (RLDS) and a tuned world model; writes the same episodes with
their video made noisy and taken for what the model takes it for, actions and
all (as SDEdit, arXiv 2108.01073, but in one step, so that nothing moves
elsewhere). Each episode's noise level is drawn from `config.levels`, (lowest,
highest); 0 only encodes and decodes.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from dreamgen_jax import dreamer, errors, hosts, metrics
from dreamgen_jax.data import rlds, views
from dreamgen_jax.stages import world_model


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """One by one; what is finished is not made again.

  Raises:
    ConfigError: `config.levels` are not two in order.
  """
  levels = tuple(config.levels)
  if len(levels) != 2 or not 0 <= levels[0] <= levels[1] <= 1:
    raise errors.ConfigError(
        f"config.levels = {levels} must be the lowest and the highest noise "
        "level, two numbers from 0 to 1; for a single one name it twice.")
  loaded = world_model.load_tuned(inputs["world_model"])
  model, c = loaded.model, loaded.model.config
  source = rlds.Dataset(inputs["demonstrations"] / "data")
  view = views.View.of(config.camera)
  index = {name: i for i, name in enumerate(source.ids)}
  states = {} if c.text_sees_frame else world_model.text(loaded, [
      view.prompt(source.episode(i, ()).instruction)
      for i in range(len(source))])

  @jax.jit
  def paint(params, seed, number, video, text):
    level_key, key = jax.random.split(jax.random.key(seed))
    low, high = levels
    tau = low + (high - low) * jax.random.uniform(level_key, (1,))
    batch = {"latent": model.encode_video(params, video),
             **model.encode_frame(params, *dreamer.ends(model, video)), **text}
    return model.decode(params, model.guess(
        params, jax.random.fold_in(key, number), batch, tau))

  def read(prompt, frame):
    if prompt in states:
      return {name: leaf[None] for name, leaf in states[prompt].items()}
    return dreamer.encode_prompts(
        model, loaded.params, loaded.tokenizer, [prompt], frame)

  def show(episode):
    video = view.compose(episode.video, (c.height, c.width))
    prompt = view.prompt(episode.instruction)
    clips = [dreamer.pad(video[i:i + c.frames], c.frames)[None]
             for i in range(0, len(video), c.frames)]
    found = np.concatenate([
        np.asarray(paint(
            loaded.params, np.uint32(episode.origin.seed % 2**32), i, clip,
            read(prompt, clip[:, 0])))[0]
        for i, clip in enumerate(clips)])[:len(video)]
    return view.split(found)

  def make_many(ids):
    progress = metrics.Progress(folder.name, len(ids), "episode")
    for name in ids:
      episode = source.episode(index[name], view.named)
      progress.advance()
      yield dataclasses.replace(episode, video=show(episode))

  found = rlds.write(
      folder / "data", folder.name, source.ids, source.embodiment,
      cameras=list(view.named), num_shards=min(config.shards, len(index)),
      digest=f"{loaded.source} {loaded.adapter} {list(levels)} "
             f"{source.digest}",
      make_many=make_many, **hosts.team())
  return {"episodes": len(found), "digest": found.digest}
