"""Clips as latents: what a world model trains on, computed once and kept.

The frozen towers (VAE, text) cost as much as a training step, so their
outputs lie beside the stage that uses them, as plain memory-mapped arrays.
"""

import functools
import itertools
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from dreamgen_jax import dreamer, hosts, interfaces, metrics
from dreamgen_jax.data import catalogue, views, windows
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
      catalogue.open(path), view.named, view.size(c.height, c.width))


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

  Every batch is kept as it is finished, and hosts divide them; progress.json
  says that all are done. Text is among the leaves only where the model reads it
  with the frame; without a tokenizer, before the text encoder is trained, the
  frame is.
  """
  sees, c = model.config.text_sees_frame, model.config
  reads = sees and tokenizer is not None
  folder.mkdir(parents=True, exist_ok=True)
  facts = artefact.read_json(folder / "progress.json") or {"done": 0}
  if hosts.agree(facts["done"] == len(source)):
    return Latents(folder)
  wanted = {name: leaf for name, leaf in model.example(1).items()
            if reads or not name.startswith("text")}
  if sees and not reads:
    wanted["frame"] = jax.ShapeDtypeStruct((1, c.height, c.width, 3), np.uint8)
  leaves = _encoder(model, reads, tuple(wanted))
  parts, places = folder / "parts", range(0, len(source), batch_size)
  parts.mkdir(exist_ok=True)
  have = set(os.listdir(parts))
  mine = [begin for begin in places if _part(begin) not in have]
  mine = mine[hosts.index()::hosts.count()]
  progress = metrics.Progress(
      folder.name, min(len(mine) * batch_size, len(source)), "clip")
  hosts.barrier()  # all have seen the same before anything changes
  for begin in mine:
    rows = [source[i] for i in
            range(begin, min(begin + batch_size, len(source)))]
    video = dreamer.pad(np.stack([row["video"] for row in rows]), batch_size)
    captions = [row["instruction"] for row in rows]
    tokens = model.tokenize(
        tokenizer, dreamer.pad(captions, batch_size)) if reads else None
    found: dict[str, Any] = {
        name: np.asarray(value)[:len(rows)] for name, value in
        leaves(params, video, tokens).items()}
    found |= {"captions": np.array(captions),
              "ids": np.array([row["id"] for row in rows])}
    partial = folder / f"partial.{uuid.uuid4().hex}.npz"
    np.savez(partial, **found)
    partial.replace(parts / _part(begin))
    progress.advance(len(rows))
  hosts.barrier()
  if hosts.first():
    _join([parts / _part(begin) for begin in places], wanted, len(source),
          folder)
  hosts.barrier()
  return Latents(folder)


def _part(begin: int) -> str:
  return f"{begin:08d}.npz"


def _join(parts: list[pathlib.Path], wanted: dict[str, Any], count: int,
          folder: pathlib.Path) -> None:
  """One array for each leaf; written in order, as any disk can."""
  for name, leaf in wanted.items():
    with (folder / f"{name}.npy").open("wb") as file:
      np.lib.format.write_array_header_1_0(file, {
          "descr": np.lib.format.dtype_to_descr(np.dtype(leaf.dtype)),
          "fortran_order": False, "shape": (count, *leaf.shape[1:])})
      for part in parts:
        with np.load(part) as found:
          file.write(found[name].astype(leaf.dtype, copy=False).tobytes())
  facts: dict[str, Any] = {"done": count}
  for name in ("captions", "ids"):
    facts[name] = list(itertools.chain.from_iterable(
        np.load(part)[name].tolist() for part in parts))
  artefact.write_json(folder / "progress.json", facts)
  shutil.rmtree(parts[0].parent)
  for left in folder.glob("partial.*"):  # by killed runs
    left.unlink()


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
