"""Clips as latents: what a world model trains on, computed once and kept.

The frozen towers (VAE, text) cost as much as a training step, so their
outputs lie beside the stage that uses them, as plain memory-mapped arrays.
"""

import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from dreamgen_jax import dreamer, interfaces, metrics
from dreamgen_jax.data import rlds, views, windows
from dreamgen_jax.stages import artefact, models


def clips(path: pathlib.Path, model: interfaces.WorldModel,
          camera: str | Sequence[str]) -> windows.Clips:
  """The clips of a dataset in the shape and at the rate the model takes.

  `camera` may be several, which share the picture: see `data.views`.
  """
  return _cut(_episodes(path, model, camera), model, camera)


def buckets(
    path: pathlib.Path, model: interfaces.WorldModel,
    camera: str | Sequence[str], counts: Sequence[int],
) -> list[tuple[interfaces.WorldModel, windows.Clips]]:
  """Clips of several frame counts, each with the model at that count.

  An episode is cut into clips of the largest count that it fills; counts that
  no episode is left for are not there.

  Raises:
    DataError: all episodes are too short.
  """
  episodes = _episodes(path, model, camera)
  free, found = np.ones(len(episodes), bool), []
  for count in sorted(set(counts), reverse=True):
    sized = models.replaced(model, {"frames": count}, "the world model")
    fits = free & windows.fits(episodes, count, model.config.video_hz)
    if fits.any():
      found.append((sized, _cut(episodes, sized, camera, fits)))
    free &= ~fits
  return found or [(sized, _cut(episodes, sized, camera))]


def _episodes(path, model, camera):
  c, view = model.config, views.View.of(camera)
  return windows.Memory(
      rlds.Dataset(path), view.named, view.size(c.height, c.width))


def _cut(episodes, model, camera, only=None):
  c = model.config
  # Clips overlap by half in time, whatever the rate of the recording.
  stride = round(c.frames // 2 * episodes.clock.video_hz / c.video_hz)
  return windows.Clips(
      episodes, camera=camera, num_frames=c.frames, only=only,
      size=(c.height, c.width), video_hz=c.video_hz, stride=max(stride, 1))


def encode(source: windows.Clips, model: interfaces.WorldModel,
           params: interfaces.Params, folder: pathlib.Path,
           batch_size: int, tokenizer: Any = None) -> "Latents":
  """Writes the latents of all clips into `folder`, or finds them there.

  Goes on where it was killed: progress.json says how many clips are done.
  Text is among the leaves only where the model reads it with the frame;
  without a tokenizer, before the text encoder is trained, the frame is.
  """
  sees, c = model.config.text_sees_frame, model.config
  reads = sees and tokenizer is not None
  folder.mkdir(parents=True, exist_ok=True)
  note = folder / "progress.json"
  facts: dict[str, Any] = {"done": 0, "captions": [], "ids": []}
  if note.exists():
    facts = json.loads(note.read_text())
  start = facts["done"]
  wanted = {name: leaf for name, leaf in model.example(1).items()
            if reads or not name.startswith("text")}
  if sees and not reads:
    wanted["frame"] = jax.ShapeDtypeStruct((1, c.height, c.width, 3), np.uint8)
  arrays = {
      name: np.lib.format.open_memmap(
          folder / f"{name}.npy", "r+" if start else "w+", leaf.dtype,
          (len(source), *leaf.shape[1:]))
      for name, leaf in wanted.items()}

  leaves = _encoder(model, reads, tuple(wanted))
  progress = metrics.Progress(folder.name, len(source), "clip", start)
  for begin in range(start, len(source), batch_size):
    rows = [source[i] for i in
            range(begin, min(begin + batch_size, len(source)))]
    video = dreamer.pad(np.stack([row["video"] for row in rows]), batch_size)
    captions = [row["instruction"] for row in rows]
    tokens = model.tokenize(
        tokenizer, dreamer.pad(captions, batch_size)) if reads else None
    for name, value in leaves(params, video, tokens).items():
      arrays[name][begin:begin + len(rows)] = np.asarray(value)[:len(rows)]
    facts["done"] = begin + len(rows)
    facts["captions"] += captions
    facts["ids"] += [row["id"] for row in rows]
    if begin // batch_size % 20 == 19 or facts["done"] == len(source):
      for array in arrays.values():
        array.flush()
      artefact.write_json(note, facts)
    progress.update(facts["done"])
  return Latents(folder)


@functools.cache  # one compiled program for all datasets
def _encoder(model: interfaces.WorldModel, reads: bool,
             wanted: tuple[str, ...]) -> Any:

  @jax.jit
  def leaves(params, video, tokens):
    first = video[:, 0]
    found = {"latent": model.encode_video(params, video), "frame": first,
             **model.encode_frame(params, *dreamer.ends(model, video))}
    if reads:
      found |= model.encode_text(params, tokens, first)
    return {name: found[name] for name in wanted}

  return leaves


class Latents:
  """Random access over encoded clips: the model's leaves, caption for text."""

  def __init__(self, folder: pathlib.Path):
    facts = json.loads((folder / "progress.json").read_text())
    self.captions, self.ids = facts["captions"], facts["ids"]
    self._arrays = {path.stem: np.load(path, mmap_mode="r")
                    for path in folder.glob("*.npy")}

  def __len__(self) -> int:
    return len(self.ids)

  def __getitem__(self, i: int) -> dict[str, Any]:
    sample = {name: np.array(array[i]) for name, array in self._arrays.items()}
    return sample | {"caption": self.captions[i]}
