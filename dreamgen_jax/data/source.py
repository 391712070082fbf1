"""Datasets that others recorded, read where they lie, TFRecord or ArrayRecord.

A `Source` is to windows what `rlds.Dataset` is. On first opening all records
are read once: what is wrong is found and told, statistics are taken, and an
index of some 40 bytes an episode is kept. From then on an episode is one seek.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import uuid
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from dreamgen_jax import errors, registry, types
from dreamgen_jax.data import (
    checks,
    columns,
    description,
    layout,
    memory,
    normalize,
    ranges,
    recording,
    records,
    scan,
)

SPLITS = ("train", "validation", "all")
_VERSION = 2  # of the index; another one is made anew


class Source:
  """Episodes of a foreign dataset; thread-safe and picklable.

  Attributes:
    layout: how its features are read.
    path: the folder that it is in.
    name: its TFDS name.
    embodiment, cameras, clock: as the layout says.
    index: name -> array with one value per episode.
    ids: episode ids: split, file, record, and the first step if it is a cut.
    digest: hash of the content; equal data, equal digest.
    problems: what is wrong with it.
    statistics: {"state", "action"} over all good episodes of all splits.
  """

  def __init__(self, given: layout.Layout, path: str | os.PathLike = "", *,
               split: str = "train", on_problem: str = "skip",
               keep: Collection[str] = (),
               index: str | os.PathLike | None = None,
               progress: Callable[[int, int], None] = lambda *_: None):
    """Opens a dataset; the first time it is read as a whole.

    Args:
      given: how its features are read.
      path: its folder, or one above versions; "" is the layout's home.
      split: "train", "validation" or "all"; which episodes are in which
        follows from their content.
      on_problem: "skip" leaves bad episodes out, "fatal" raises.
      keep: kinds of problems (`checks.KINDS`) whose episodes stay.
      index: folder that keeps the index if the dataset's own cannot be
        written to; None is nowhere.
      progress: called with (files read, files) while the index is made.

    Raises:
      DataError: no such dataset, features that the layout does not fit, no
        good episode, or a problem that is fatal.
    """
    if split not in SPLITS:
      raise errors.ConfigError(
          f"Unknown split {split!r}; have: {', '.join(SPLITS)}."
          + registry.nearest(split, list(SPLITS)))
    report = checks.Report(on_problem, keep)
    if not path and not given.home:
      raise errors.DataError(
          "The layout does not say where the dataset lies; give its folder.")
    self.layout, self._found = given, description.read(path or given.home)
    self.path, self.name = self._found.path, self._found.name
    self.embodiment, self.clock = given.embodiment, given.embodiment.clock
    self.cameras = list(given.cameras)
    self._names = columns.names(given, self._found)
    unknown = [name for name in given.splits if name not in self._found.splits]
    if unknown:
      raise errors.DataError(
          f"{self.path} has no split {unknown[0]!r}, only "
          f"{', '.join(self._found.splits)}.")
    self._shards = [shard for shard in self._found.shards
                    if shard.split in (given.splits or self._found.splits)]
    facts, rows = self._load(index, report, sorted(keep), progress)
    self.problems = [checks.Problem(**each) for each in facts["problems"]]
    for problem in self.problems:
      if on_problem == "fatal" and problem.kind not in {*checks.NOTES, *keep}:
        raise errors.DataError(f"{problem.episode}: {problem.text}")
    self.statistics = {
        name: normalize.Statistics.from_json(value)
        for name, value in facts["statistics"].items()}
    self._rows = part(rows, split, given.validation)
    self.digest = hashlib.sha256(
        facts["key"].encode() + split.encode()
        + self._rows["hash"].tobytes()).hexdigest()
    self.ids = Ids(self._rows, self._shards)
    self.index = self._index()
    if not len(self):
      raise errors.DataError(
          f"{self.path} has no good episode in its split {split!r}: "
          f"{len(rows['hash'])} in all, problems: "
          f"{self.counts() or 'none'}. "
          + "".join(map(str, self.problems[:1])))

  def __len__(self) -> int:
    return len(self._rows["hash"])

  def __repr__(self) -> str:
    return f"Source({self.path!r}, {len(self)} episodes)"

  @property
  def weight(self) -> float:
    """How often it is drawn in a mixture, against others."""
    return self.layout.weight

  @property
  def lengths(self) -> np.ndarray:
    """i64[episodes, 2]: number of frames and of control steps."""
    return np.stack([self._rows["steps"]] * 2, axis=1).astype(np.int64)

  @property
  def description(self) -> description.Description:
    """Its features and files."""
    return self._found

  def uses(self) -> list[tuple[str, str]]:
    """(what for, full name) of every feature that the layout uses."""
    given = self.layout
    found = [(f"{kind} {key}", column.feature) for kind in ("state", "action")
             for key, each in given.columns(kind).items() for column in each]
    found += [(f"camera {camera}", path)
              for camera, path in given.cameras.items()]
    found += [("instruction", path) for path in given.instruction]
    found += [("success", given.success), ("source id", given.source_id)]
    if given.timestamp:
      found.append(("timestamp", columns.time_of(given).feature))
    return [(what, self._names[path]) for what, path in found if path]

  def counts(self) -> dict[str, int]:
    """Kind of problem -> how many."""
    kinds = [problem.kind for problem in self.problems]
    return {kind: kinds.count(kind) for kind in checks.KINDS if kind in kinds}

  def position(self, episode_id: str) -> int:
    """Index of an episode id.

    Raises:
      DataError: there is no such episode.
    """
    try:
      return self.ids.index(episode_id)
    except ValueError:
      raise errors.DataError(
          f"{self.path} has no episode {episode_id!r}.") from None

  def episode(self, i: int, cameras: Sequence[str] | None = None,
              frames: Sequence[int] | np.ndarray | None = None,
              ) -> types.Episode:
    """Episode `i`, as `rlds.Dataset.episode`: only what is wanted is decoded.

    Raises:
      DataError: no such episode or camera, or it cannot be read any more.
    """
    if not 0 <= i < len(self):
      raise errors.DataError(
          f"{self.path} has {len(self)} episodes, no number {i}.")
    row = {name: int(values[i]) for name, values in self._rows.items()}
    n, first = row["steps"], row["first"]
    wanted = np.arange(n) if frames is None else np.asarray(frames)
    if len(wanted) and not 0 <= wanted.min() <= wanted.max() < n:
      raise errors.DataError(
          f"Frames {wanted.min()}..{wanted.max()} wanted of episode "
          f"{self.ids[i]!r}, which has {n}.")
    shard = self._shards[row["shard"]]
    try:
      with records.opened(shard.file, self._found.format) as record:
        found = self._recording(record(row["place"], row["size"]))
        state, action = found.vectors()
        empty = np.empty if frames is None else memory.window
        video = {camera: found.video(camera, (first + wanted).tolist(), empty)
                 for camera in self._known(cameras)}
        facts = {"dataset": self.name}
        if self.layout.source_id:
          facts["source_id"] = found.text(self.layout.source_id)
        return types.Episode(
            id=self.ids[i], video=video,
            instruction=found.instruction(row["hash"]),
            embodiment=self.embodiment.name, clock=self.clock,
            origin=types.Origin(kind="robot", dataset=self.name),
            state=None if state is None else state[first:first + n],
            action=None if action is None else action[first:first + n],
            success=None if row["success"] < 0 else bool(row["success"]),
            facts=facts)
    except (errors.DataError, OSError) as error:
      raise errors.DataError(
          f"Episode {self.ids[i]!r} of {self.path}: {error}") from error

  def _recording(self, record: ranges.Part) -> recording.Recording:
    return recording.Recording(
        self.layout, self._found.fields, self._names, record)

  def _known(self, cameras: Sequence[str] | None) -> Sequence[str]:
    for camera in cameras or ():
      if camera not in self.cameras:
        raise errors.DataError(
            f"There is no camera {camera!r}, only {self.cameras}.")
    return self.cameras if cameras is None else cameras

  def _index(self) -> dict[str, np.ndarray]:
    steps = self._rows["steps"]

    def same(value):
      return np.broadcast_to(value, len(steps))

    return {
        "frames": steps, "steps": steps, "success": self._rows["success"],
        "kept": same(True), "has_state": same(bool(self.layout.state)),
        "has_action": same(bool(self.layout.action)),
        "video_hz": same(self.clock.video_hz),
        "control_hz": same(self.clock.control_hz)}

  def _load(self, folder, report, keep, progress):
    """(facts, columns) of the index, which is made if it is not there."""
    files = [[shard.split, shard.number, shard.count, shard.found,
              _size(shard)] for shard in self._shards]
    key = hashlib.sha256(json.dumps([
        _VERSION, self.layout.to_json(), sorted(self._names.items()), keep,
        {name: str(field) for name, field in self._found.fields.items()},
        files], sort_keys=True).encode()).hexdigest()
    own = "://" not in self.path and os.access(self.path, os.W_OK)
    place = pathlib.Path(self.path) if own else folder and pathlib.Path(folder)
    file = place and place / f"dreamgen_{key[:16]}.npz"
    if file and file.exists():
      with np.load(file) as held:
        rows = {name: held[name] for name in scan.COLUMNS}
        return json.loads(str(held["facts"])), rows
    rows, statistics = scan.scan(
        self.layout, self._found, self._names, self._shards, report, progress)
    facts = {
        "key": key, "statistics": statistics,
        "problems": [dataclasses.asdict(each) for each in report.problems]}
    if file:
      file.parent.mkdir(parents=True, exist_ok=True)
      temporary = file.with_name(f"incomplete.{uuid.uuid4().hex}")
      with temporary.open("wb") as stream:
        np.savez(stream, **rows, facts=np.array(json.dumps(facts)))
      os.replace(temporary, file)
    return facts, rows


def part(rows: dict[str, np.ndarray], split: str,
         validation: float) -> dict[str, np.ndarray]:
  """The rows of a split: the hash decides, so that copies stay together.

  However few episodes there are, one is for validation.
  """
  if split == "all" or not len(rows["hash"]):
    return rows
  share = (rows["hash"] >> np.uint64(32)) / 2.0**32
  border = max(validation, share.min()) if validation else -1.0
  taken = (share <= border) == (split == "validation")
  return {name: values[taken] for name, values in rows.items()}


class Ids(Sequence):
  """Episode ids, made when they are asked for: none is kept."""

  def __init__(self, rows: dict[str, np.ndarray],
               shards: Sequence[description.Shard]):
    """Args: the index's columns, and the files that they number."""
    self._rows, self._shards = rows, shards

  def __len__(self) -> int:
    return len(self._rows["hash"])

  def __getitem__(self, i):
    if isinstance(i, slice):
      return [self[j] for j in range(len(self))[i]]
    row = {name: int(self._rows[name][i])
           for name in ("shard", "record", "first")}
    shard = self._shards[row["shard"]]
    cut = f"-{row['first']}" if row["first"] else ""
    return f"{shard.split}-{shard.number:05d}-{row['record']:06d}{cut}"

  def __eq__(self, other: Any) -> bool:
    return list(self) == list(other)


def _size(shard: description.Shard) -> int:
  if not shard.found or "://" in shard.file:
    return 0
  return os.stat(shard.file).st_size
