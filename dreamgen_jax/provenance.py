"""Leads from an action back to its video, start frame and demonstration.

  python -m dreamgen_jax.provenance --dataset=runs/NAME/neural
      --episode=ID [--step=12] [--output=strip.png] [--search=DIR,DIR]

Prints the chain and draws it as a strip of pictures. Datasets and stages that
it leads to are looked for beside the dataset's own, and in --search.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from dreamgen_jax import errors, options, types
from dreamgen_jax.data import catalogue, images
from dreamgen_jax.stages import artefact

HELP = {
    "dataset": "a dataset, or the folder of the stage that made it",
    "episode": "id of the episode",
    "step": "control step; default: that in the middle",
    "output": "PNG to draw; default: none",
    "search": "more folders of runs or datasets, by commas",
}
FRAME = "frame"  # of a start frame's `facts`: its place in the demonstration
_TILE, _CAPTION = 192, 14  # pixels
_LINKS = 8  # longer chains go round in circles


@dataclasses.dataclass(frozen=True)
class Link:
  """One place of the chain; `pictures` are (caption, u8[h,w,3])."""

  title: str
  lines: list[str]
  pictures: list[tuple[str, np.ndarray]]


def trace(dataset: pathlib.Path, episode_id: str, step: int | None = None,
          search: Sequence[pathlib.Path] = ()) -> list[Link]:
  """The chain of an episode's step, from the action to the demonstration.

  Raises:
    DataError: no such dataset, episode or step.
  """
  path = _data(dataset)
  data = catalogue.open(path)
  found = data.episode(data.position(episode_id))
  steps = 1 if found.action is None else len(found.action)
  step = steps // 2 if step is None else step
  if not 0 <= step < steps:
    raise errors.DataError(
        f"Episode {episode_id!r} has {steps} steps, no step {step}.")
  roots = [path.parent.parent, *search]
  links = [_action(found, data.embodiment, step), _video(found, path, step)]
  links += [Link("made by", lines, [])
            for lines in [_stages(path, roots)] if lines]
  while found.origin.source_id and len(links) < _LINKS:
    before = _source(found.origin, roots)
    if before is None:
      links.append(Link(
          "not found", [f"episode {found.origin.source_id!r} of the dataset "
                        f"{found.origin.dataset!r}; name its folder by "
                        "--search"], []))
      break
    path, source = before
    frame = _frame(found)
    title = ("start frame" if found.origin.kind == "dream"
             else "demonstration")
    found = source
    links.append(Link(f"{title} {found.id!r} of {path}", [
        f"frame {frame}; {_of(found)}",
        f"instruction: {found.instruction}"], [
        (f"{title}, frame {frame}", _picture(found, frame))]))
  return links


def strip(links: Sequence[Link]) -> np.ndarray:
  """All pictures of a chain side by side, oldest first, u8[h,w,3]."""
  tiles = []
  for link in reversed(links):
    for caption, picture in link.pictures:
      tile = Image.new("RGB", (_TILE, _TILE + _CAPTION))
      tile.paste(Image.fromarray(images.letter_box(picture, _TILE)),
                 (0, _CAPTION))
      ImageDraw.Draw(tile).text((2, 1), caption, fill="white")
      tiles.append(np.asarray(tile))
  return np.concatenate(tiles, axis=1)


def _action(episode: types.Episode, robot: types.Embodiment,
            step: int) -> Link:
  if episode.action is None:
    return Link("no action", ["the episode has no label"], [])
  lines, at = [], 0
  for key in robot.action:
    for i in range(key.dims):
      name = f"{key.name}[{i}]" if key.dims > 1 else key.name
      value = float(episode.action[step, at])
      text = f"{value:.4g}" if np.isfinite(value) else "no label"
      if episode.spread is not None and np.isfinite(value):
        text += f" +- {float(episode.spread[step, at]):.2g}"
      if episode.disagreement is not None and np.isfinite(value):
        text += f" (windows {float(episode.disagreement[step, at]):.2g})"
      lines.append(f"{name}: {text} {key.unit if key.unit != '1' else ''}"
                   .rstrip())
      at += 1
  if episode.state is not None:
    how = "decoded" if episode.origin.state_decoded else "measured"
    values = ", ".join(f"{x:.4g}" for x in episode.state[step])
    lines.append(f"state ({how}): {values}")
  origin = episode.origin
  said = f"labelled by {origin.labeler}" if origin.labeler else "recorded"
  seconds = step / episode.clock.control_hz
  return Link(f"action of step {step} ({seconds:.2f} s), {said}", lines, [])


def _video(episode: types.Episode, path: pathlib.Path, step: int) -> Link:
  origin = episode.origin
  length = len(next(iter(episode.video.values())))
  at = min(length - 1, round(
      step / episode.clock.control_hz * episode.clock.video_hz))
  lines = [
      _of(episode), f"instruction: {episode.instruction}",
      f"{length} frames at {episode.clock.video_hz:g} Hz, controls at "
      f"{episode.clock.control_hz:g} Hz, cameras {', '.join(episode.video)}",
  ]
  if origin.kind == "dream":
    lines += [f"world model {origin.world_model or 'unknown'}, adapters "
              f"{origin.adapter or 'none'}",
              f"seed {origin.seed}, sampler {origin.sampler}"]
  if origin.labeling:
    lines.append(f"labelling {origin.labeling}")
  scores = ", ".join(f"{name} {score:.3g}"
                     for name, score in origin.scores.items()) or "none"
  lines.append(f"scores: {scores}; " + (
      "kept" if origin.kept else "rejected") + (
      f": {origin.reason}" if origin.reason else ""))
  pictures = [(f"video, frame {i}", _picture(episode, i))
              for i in sorted({0, at, length - 1})]
  return Link(f"video {episode.id!r} of {path}", lines, pictures)


def _stages(path: pathlib.Path, roots: Sequence[pathlib.Path]) -> list[str]:
  """The stage that wrote a dataset, and what it was made from, as a tree."""
  records = {}
  for folder in _folders(roots):
    record = artefact.read_json(folder / artefact.DONE)
    if record:
      records[record["key"]] = folder, record
  own = artefact.read_json(path.parent / artefact.DONE)

  def walk(folder, record, name, depth):
    yield f"{'  ' * depth}{name}: {folder} ({record['key'][:8]})"
    for inner, key in record["inputs"].items():
      if key in records:
        yield from walk(*records[key], inner, depth + 1)
      else:
        yield f"{'  ' * (depth + 1)}{inner}: {key[:8]}, elsewhere"

  return list(walk(path.parent, own, own["stage"], 0)) if own else []


def _source(origin: types.Origin, roots: Sequence[pathlib.Path]
            ) -> tuple[pathlib.Path, types.Episode] | None:
  """The episode that an origin names, where a dataset has it."""
  for folder in _folders(roots):
    try:
      path = _data(folder)
      data = catalogue.open(path)
    except errors.DataError:
      continue  # no dataset, or one that is being written
    named = data.digest.startswith(origin.dataset) or origin.dataset in (
        data.name, folder.name)
    if origin.dataset and named and origin.source_id in data.ids:
      return path, data.episode(data.position(origin.source_id))
  return None


def _folders(roots: Sequence[pathlib.Path]) -> Iterator[pathlib.Path]:
  """Every root, and what lies in it."""
  for root in roots:
    if root.is_dir():
      yield root
      yield from sorted(child for child in root.iterdir() if child.is_dir())


def _data(folder: pathlib.Path) -> pathlib.Path:
  """A dataset's own folder: `folder`, or data/ in it."""
  inner = folder / "data"
  return inner if inner.is_dir() else folder


def _frame(episode: types.Episode) -> int:
  """Which frame of its source an episode or prompt begins with."""
  return int(episode.facts.get(FRAME, 0)) if (
      episode.origin.kind != "dream") else 0


def _of(episode: types.Episode) -> str:
  origin = episode.origin
  said = {"dream": "dreamt", "sim": "from a simulator",
          "robot": "recorded on a robot"}.get(origin.kind, origin.kind)
  return f"{said}; {episode.embodiment}, dataset {origin.dataset!r}" + (
      f", seed {origin.seed}" if origin.kind == "sim" else "")


def _picture(episode: types.Episode, frame: int) -> np.ndarray:
  """The cameras of a frame side by side, u8[h,w,3]."""
  return np.concatenate([frames[min(frame, len(frames) - 1)]
                         for frames in episode.video.values()], axis=1)


@options.program(__doc__, HELP, ("dataset", "episode"))
def main(given: Any) -> None:
  """Runs the program."""
  if given.step and not given.step.isdigit():
    raise errors.ConfigError(
        f"--step takes a whole number, not {given.step!r}.")
  links = trace(
      pathlib.Path(given.dataset), given.episode,
      int(given.step) if given.step else None,
      [pathlib.Path(root) for root in (given.search or "").split(",") if root])
  for link in links:
    print(link.title, *(f"  {line}" for line in link.lines), sep="\n")
  if given.output:
    Image.fromarray(strip(links)).save(given.output)
    print(f"Drew {given.output}.")


if __name__ == "__main__":
  sys.exit(main())
