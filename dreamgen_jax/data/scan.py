"""Reads a foreign dataset once: what is good, where it lies, what is wrong."""

import array
import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dreamgen_jax import errors
from dreamgen_jax.data import (
    checks,
    description,
    layout,
    normalize,
    ranges,
    recording,
    records,
)

# Of the index: one row per episode, of these C types.
COLUMNS = {"shard": "I", "record": "I", "place": "Q", "size": "Q",
           "first": "i", "steps": "i", "hash": "Q", "success": "b"}


def scan(given: layout.Layout, described: description.Description,
         names: Mapping[str, str], shards: Sequence[description.Shard],
         report: checks.Report, progress: Callable[[int, int], None]
         ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """Reads every record of all files that are there.

  Args:
    given: how they are read.
    described: whose they are.
    names: path that the layout uses -> the feature's full name.
    shards: the files.
    report: gets what is wrong.
    progress: called with (files read, files).

  Returns:
    (the columns of `COLUMNS`, statistics of "state" and "action" as JSON).

  Raises:
    DataError: a problem that the report says is fatal.
  """
  missing = [shard.file for shard in shards if not shard.found]
  if missing:
    report.keeps("missing", described.path, f"{len(missing)} of {len(shards)} "
                 f"files are not there, such as {missing[0]}.", skipped=False)
  work = _Scan(given, described, names, report)
  for number, shard in enumerate(shards):
    if shard.found:
      work.read(number, shard)
    progress(number + 1, len(shards))
  return ({name: np.array(values, values.typecode)
           for name, values in work.rows.items()}, work.statistics())


@dataclasses.dataclass(frozen=True)
class _Good:
  """What the index keeps of one record, and what statistics are taken of."""

  key: int
  state: np.ndarray | None
  action: np.ndarray | None
  cuts: list[tuple[int, int]]
  success: bool | None


class _Scan:
  """What is known after the records that were read so far."""

  def __init__(self, given, described, names, report):
    self._layout, self._described, self._names = given, described, names
    self._report, self._robot = report, given.embodiment
    self.rows = {name: array.array(kind) for name, kind in COLUMNS.items()}
    self._sums = {
        "state": normalize.Accumulator(self._robot.state_dim),
        "action": normalize.Accumulator(self._robot.action_dim)}
    self._seen: dict[int, str] = {}
    self._sizes: dict[str, tuple[int, ...]] = {}

  def read(self, number: int, shard: description.Shard) -> None:
    """Takes in one file."""
    count, name = 0, pathlib.PurePath(shard.file).name
    try:
      with records.opened(shard.file, self._described.format) as record:
        for place, size in records.scan(shard.file, self._described.format):
          episode = f"{shard.split}-{shard.number:05d}-{count:06d}"
          found = self._examine(episode, record(place, size).read())
          if found:
            self._keep(found, (number, count, place, size))
          count += 1
    except checks.Bad as error:
      self._report.keeps(error.kind, name, str(error), skipped=False)
    if count != shard.count:
      self._report.keeps("length", name, f"It holds {count} whole records; the "
                         f"description promises {shard.count}.", skipped=False)

  def statistics(self) -> dict[str, Any]:
    """Of what was kept, as JSON; reports what never changes."""
    found = {}
    for name in ("state", "action"):
      if getattr(self._layout, name) and self.rows["hash"]:
        result = self._sums[name].result()
        found[name] = result.to_json()
        for text in checks.constants(
            getattr(self._robot, name), result.min, result.max):
          self._report.keeps("constant", self._described.path,
                             f"{name} {text} in all episodes.", skipped=False)
    return found

  def _keep(self, found: _Good, where: tuple[int, ...]) -> None:
    for name, accumulator in self._sums.items():
      values = getattr(found, name)
      if values is not None:
        accumulator.add(values)
    success = -1 if found.success is None else int(found.success)
    for first, steps in found.cuts:
      for column, value in zip(
          self.rows.values(), (*where, first, steps, found.key, success),
          strict=True):
        column.append(value)

  def _examine(self, episode: str, data: bytes) -> _Good | None:
    """What is good; None if the episode is left out."""
    key = int.from_bytes(
        hashlib.blake2b(data, digest_size=8).digest(), "little")
    try:
      found = recording.Recording(
          self._layout, self._described.fields, self._names,
          ranges.Part.of(data))
      steps = found.steps()
      state, action = found.vectors()
    except errors.DataError as error:
      self._report.keeps(
          getattr(error, "kind", "truncated"), episode, str(error))
      return None
    for check in (
        found.check_pictures, lambda: self._sized(found), found.check_clock,
        lambda: self._told(found, key), lambda: self._succeeded(found),
        lambda: self._new(episode, key)):
      try:
        check()
      except checks.Bad as error:
        if not self._report.keeps(error.kind, episode, str(error)):
          return None
    cuts = [(0, steps)] if action is None else recording.moving(
        action, self._robot.action, self._layout.idle,
        self._robot.clock.control_hz)
    return _Good(key, state, action, cuts, found.success())

  def _sized(self, found: recording.Recording) -> None:
    """That each camera's first picture can be read, at the size of others."""
    for camera in self._layout.cameras:
      height, width = found.video(camera, [0]).shape[1:3]
      wanted = self._sizes.setdefault(camera, (height, width))
      if (height, width) != wanted:
        raise checks.Bad(
            "picture", f"Camera {camera!r} has {width}x{height} pixels; "
            f"others have {wanted[1]}x{wanted[0]}.")

  def _told(self, found: recording.Recording, key: int) -> None:
    if self._layout.instruction and not found.instruction(key):
      raise checks.Bad("instruction", "It has no instruction.")

  def _succeeded(self, found: recording.Recording) -> None:
    if self._layout.only_success and found.success() is False:
      raise checks.Bad("failed", "It did not succeed.")

  def _new(self, episode: str, key: int) -> None:
    first = self._seen.setdefault(key, episode)
    if first != episode:
      raise checks.Bad("duplicate", f"It is byte for byte {first!r} again.")
