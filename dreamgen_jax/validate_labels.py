"""Holds a labeler against recorded actions: table, figure and video.

  python -m dreamgen_jax.validate_labels --labeler=runs/NAME/labeler
      --data=runs/NAME/heldout --output=DIR [--cameras=front,wrist]
      [--samples=8] [--stride=1] [--weights=uniform] [--sim=tabletop]

Labels every episode of a dataset that has actions, and writes table.csv,
table.json (by dimension: of all, by camera, by length), page.html (calibration,
traces, table) and overlay.mp4 (the first episode with both actions). A labeler
of one view is run on each camera that is named; default: those it learnt from.
With --sim the labels are also executed there.
"""

import csv
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from dreamgen_jax import agreement, errors, options, statistics
from dreamgen_jax.report import content, overlay, validation

HELP = {
    "labeler": "folder of a trained labeler",
    "data": "folder of recorded episodes (that holds data/), not trained on",
    "output": "folder to write",
    "cameras": "by commas; default: those that the labeler learnt from",
    "samples": (8, "noise samples per window"),
    "stride": (1, "frames from one window to the next"),
    "weights": ("uniform", "of overlapping windows"),
    "episodes": (0, "how many at most; 0 is all"),
    "only": "ids of episodes by commas; default: all",
    "batch_size": (32, "windows per call"),
    "sim": "simulator to execute the labels in",
}
SPREADS = np.linspace(0, 3, 25).tolist()


@options.program(__doc__, HELP, ("labeler", "data", "output"))
def main(given: Any) -> None:
  """Runs the program."""
  from dreamgen_jax.data import catalogue, subset, video  # late: mistakes first
  from dreamgen_jax.stages import artefact, simulated

  data = catalogue.open(pathlib.Path(given.data) / "data")
  if given.only:
    data = subset.subset(data, given.only.split(","))
  chosen = [i for i in np.flatnonzero(data.index["kept"]).tolist()
            if data.index["has_action"][i]][:given.episodes or None]
  if not chosen:
    raise errors.DataError(
        f"{data.path} has no recorded actions to hold labels against.")
  found = {camera: _label(given, data, chosen, camera)
           for camera in (given.cameras or "").split(",")}
  keys = data.embodiment.action
  pairs = next(iter(found.values()))
  table = agreement.table("all", pairs, keys)
  if len(found) > 1:
    for camera, each in found.items():
      table += agreement.table(f"camera {camera}", each, keys)
  for name, each in _by_length(pairs):
    table += agreement.table(name, each, keys)

  notes = [f"{len(pairs)} episodes of {data.name}, K = {given.samples}, "
           f"stride {given.stride}."]
  truth, labelled, spread = agreement.stack(pairs)
  notes.append("R2 by key, of what moves: " + ", ".join(
      f"{name} {r2:.2f}" for name, r2 in agreement.agreement(
          truth, labelled, keys)["r2_key"].items()) + ".")
  if given.sim:
    replay = simulated.replay(given.sim)
    for said, side in (("recorded actions", 0), ("labels", 1)):
      successes = sum(replay(pair[side])[0] for pair in pairs)
      low, high = statistics.wilson(successes, len(pairs))
      notes.append(f"Executed in {given.sim}, {said} succeed in {successes} of "
                   f"{len(pairs)} episodes ({low:.0%} to {high:.0%}).")
  output = pathlib.Path(given.output)
  output.mkdir(parents=True, exist_ok=True)
  artefact.write_json(output / "table.json", {"notes": notes, "rows": table})
  with (output / "table.csv").open("w", newline="") as file:
    writer = csv.DictWriter(file, agreement.COLUMNS)
    writer.writeheader()
    writer.writerows(table)
  covered = agreement.coverage(truth, labelled, spread, keys, SPREADS)
  names = agreement.names(keys)
  shown = agreement.liveliest(truth, 5)
  first, found_first = pairs[0]
  (output / "page.html").write_text(validation.build(
      f"Labels of {data.name}", notes, agreement.COLUMNS, table, SPREADS,
      {names[i]: covered[names[i]] for i in shown if names[i] in covered},
      _traces(first, found_first, keys)))
  (output / "overlay.mp4").write_bytes(video.encode(overlay.draw(
      next(iter(found_first.video.values())), first.action, found_first.action,
      names, shown, first.clock.steps_per_frame), first.clock.video_hz))
  for note in notes:
    print(note)
  print(f"Wrote {output / 'page.html'} and the table beside it.")


def _label(given: Any, data: Any, chosen: list[int],
           camera: str) -> list[agreement.Pair]:
  """(recorded, labelled) of the episodes, from one camera or ("") its own."""
  from dreamgen_jax.stages import labelers

  labeler = labelers.load(pathlib.Path(given.labeler), {
      "samples": given.samples, "weights": given.weights,
      "batch_size": given.batch_size, "stride": given.stride,
      "cameras": [camera] if camera else None})
  pairs = []
  for i in chosen:
    real: Any = data.episode(i, labeler.cameras)
    labelled: Any = next(labeler.label([real]))
    if labelled.action.shape != real.action.shape:
      raise errors.DataError(
          f"Episode {real.id!r} has {list(real.action.shape)} actions and "
          f"{list(labelled.action.shape)} labels; they can only be compared "
          "at the rates, and for the embodiment, that the labeler learnt.")
    pairs.append((real, labelled))
  return pairs


def _traces(real: Any, labelled: Any, keys: Any) -> content.Labelled:
  """An episode's actions as the page shows them; what rests is left out."""
  traces = [content.Trace(name, *(
      values[:, i].tolist() for values in (
          real.action, labelled.action, labelled.spread)))
      for i, name in enumerate(agreement.names(keys))
      if np.ptp(real.action[:, i])]
  return content.Labelled(f"Episode {real.id}", real.clock.control_hz, traces)


def _by_length(pairs: list[agreement.Pair]
               ) -> Iterator[tuple[str, list[agreement.Pair]]]:
  """Thirds of the episodes by length, unless all are about as long."""
  lengths = np.array([len(real.action) for real, _ in pairs])
  if len(pairs) < 3 or np.ptp(lengths) < 0.1 * lengths.max():
    return
  for part in np.array_split(np.argsort(lengths, kind="stable"), 3):
    yield (f"{lengths[part].min()} to {lengths[part].max()} steps",
           [pairs[i] for i in part])


if __name__ == "__main__":
  sys.exit(main())
