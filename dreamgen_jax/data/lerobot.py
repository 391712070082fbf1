"""Reads LeRobot folders, v2.0, v2.1 and v3, as episodes.

Real folders are messy: descriptions promise files that are not there. So the
files on disk count, not `meta/info.json`; all that is odd goes into a list of
findings, bad episodes into a report, and only a folder of which nothing remains
is an error. GR00T's `modality.json` is used where present. The way back is in
`lerobot_export`.
"""

import collections
import functools
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamgen_jax import errors, types
from dreamgen_jax.data import checks, lerobot_files, video

DREAM_PREFIX = "<DREAM>"  # GR00T-Dreams marks the tasks of its dreams
EXTRA = "dreamgen"  # our own entry in what meta says of an episode
# Where GR00T's datasets keep the instruction, best first.
_ANNOTATIONS = (
    "human.action.task_description", "human.coarse_action",
    "human.task_description", "language.language_instruction",
)


class Folder:
  """A LeRobot dataset on disk.

  Attributes:
    path: its folder.
    embodiment: the robot whose layout the episodes get.
    findings: one sentence for everything odd about the folder.
    report: what is wrong with single episodes.
    ids: ids of the readable episodes, in order.
    cameras: camera -> LeRobot's video key.
    clock: rates of all readable episodes.
  """

  def __init__(self, path: str | pathlib.Path, embodiment: types.Embodiment,
               cameras: Mapping[str, str] | None = None,
               report: checks.Report | None = None):
    """Looks at all files; decodes nothing.

    Args:
      path: the folder that holds `meta`, `data` and `videos`.
      embodiment: names the keys and cameras to look for.
      cameras: camera -> video key, where the names do not tell.
      report: decides what happens to bad episodes; by default they are left
        out. Of those whose length is kept, the shortest part counts.

    Raises:
      DataError: no such folder, an unsupported version, or nothing usable.
    """
    self.path, self.embodiment = pathlib.Path(path), embodiment
    self.findings: list[str] = []
    self.report = report or checks.Report()
    if not self.path.is_dir():
      raise errors.DataError(f"There is no LeRobot folder {self.path}.")
    self._info = self._json("info.json")
    self._modality = self._json("modality.json", optional=True)
    self._files = lerobot_files.open_version(
        self.path, self._info, self.findings)
    self.cameras, self._videos = self._find_cameras(cameras or {})
    self._check_promises()
    self._numbers, self.clock = self._usable()
    self.ids = list(self._numbers)

  def __len__(self) -> int:
    return len(self.ids)

  def fingerprint(self) -> list[list[Any]]:
    """Relative name, size and time of every file that counts, JSON-able."""
    files = {*self._files, *(
        clip.path for group in self._videos.values()
        for clip in group.values())}
    files |= {file for file in (self.path / "meta").rglob("*")
              if file.is_file()}
    return sorted(
        [str(file.relative_to(self.path)), file.stat().st_size,
         file.stat().st_mtime_ns]
        for file in files)

  def episode(self, episode_id: str) -> types.Episode:
    """Reads one episode.

    Raises:
      DataError: a damaged file.
    """
    number = self._numbers[episode_id]
    table = self._files.table(number)
    line = self._files.lines.get(number, {})
    extra = _extra(line)
    videos = {}
    for camera in self.cameras:
      path, first, count = self._videos[camera][number]
      videos[camera] = video.decode(
          path, None if count is None else first + np.arange(count))
    instruction, dream = self._instruction(table, line)
    state = self._vector(table, "state", extra)
    action = self._vector(table, "action", extra)
    if dream and not extra:
      # GR00T-Dreams fills what a dream does not know with zeros.
      state = None if state is None or not state.any() else state
      action = None if action is None or not action.any() else action
    length = min(len(frames) for frames in videos.values())
    if self.clock.steps_per_frame == 1:
      length = min(length, table.num_rows)
      state = None if state is None else state[:length]
      action = None if action is None else action[:length]
    origin = types.Origin(
        kind="dream" if dream else "robot", dataset=self.path.name)
    success = extra.get("success")
    if "next.success" in table.column_names:
      success = bool(np.any(table["next.success"][-1].as_py()))
    return types.Episode(
        id=episode_id,
        video={camera: frames[:length] for camera, frames in videos.items()},
        instruction=instruction,
        embodiment=self.embodiment.name,
        clock=self.clock,
        origin=types.Origin(**extra["origin"]) if "origin" in extra else origin,
        state=state,
        action=action,
        success=success,
        facts=extra.get("facts", {"source_index": number}),
    )

  def _json(self, name: str, optional: bool = False) -> dict[str, Any]:
    path = self.path / "meta" / name
    try:
      return json.loads(path.read_text())
    except FileNotFoundError:
      if not optional:
        self.findings.append(f"meta/{name} is missing.")
    except ValueError:
      self.findings.append(f"meta/{name} is not valid JSON.")
    return {}

  def _find_cameras(self, given):
    """(camera -> video key, camera -> episode number -> clip)."""
    keys, files = {}, {}
    for camera in self.embodiment.cameras:
      named = self._modality.get("video", {}).get(camera, {})
      candidates = [
          given.get(camera), named.get("original_key"),
          f"observation.images.{camera}", camera,
      ]
      for key in dict.fromkeys(filter(None, candidates)):
        found = self._files.clips(key)
        if found:
          keys[camera], files[camera] = key, found
          break
      else:
        self.findings.append(f"Camera {camera!r} has no video files.")
    if not keys:
      raise errors.DataError(
          f"{self.path} has no video of the cameras "
          f"{list(self.embodiment.cameras)} of {self.embodiment.name!r}."
      )
    return keys, files

  def _check_promises(self) -> None:
    """Compares meta/info.json with what is there."""
    features = self._info.get("features", {})
    for key, feature in features.items():
      if feature.get("dtype") not in ("video", "image"):
        continue
      if feature["dtype"] == "image":
        self.findings.append(f"{key!r} is stored as images; it is not read.")
      elif not self._files.clips(key):
        self.findings.append(f"info.json promises the video {key!r}, which "
                             "has no files.")
      elif key in self.cameras.values():
        self._check_video(key, feature)
    count = len(self._files.numbers)
    promised = self._info.get("total_episodes", count)
    if promised != count:
      self.findings.append(f"info.json promises {promised} episodes, "
                           f"{count} have rows.")
    self.findings += self._files.check(
        self._info, sum(len(clips) for clips in self._videos.values()))
    for name, span in self._info.get("splits", {}).items():
      match = re.fullmatch(r"\d+:(\d+)", str(span))
      if match and int(match[1]) > count:
        self.findings.append(f"Split {name!r} is {span}, but there are "
                             f"{count} episodes.")

  def _check_video(self, key: str, feature: dict[str, Any]) -> None:
    clip = next(iter(self._files.clips(key).values()))
    try:
      _, hz, height, width = video.probe(clip.path)
    except errors.DataError:
      return  # reported per episode
    names = [str(name).removesuffix("s") for name in feature.get("names") or ()]
    shape = dict(zip(names, feature.get("shape", ()), strict=False))
    told = shape.get("height", height), shape.get("width", width)
    if told != (height, width):
      self.findings.append(f"info.json says that {key!r} is {told[0]} x "
                           f"{told[1]}; it is {height} x {width}.")
    facts = feature.get("video_info") or feature.get("info") or {}
    rate = facts.get("video.fps", hz)
    if not np.isclose(rate, hz, rtol=0.01):
      self.findings.append(f"info.json says that {key!r} has {rate:g} frames "
                           f"a second; it has {hz:g}.")

  def _usable(self) -> tuple[dict[str, int], types.Clock]:
    """(id -> number of the episodes that can be read, their clock)."""
    clocks, numbers, ids = {}, {}, {}
    for number in self._files.numbers:
      extra = _extra(self._files.lines.get(number, {}))
      ids[number] = extra.get("id", f"{self.path.name}-{number:06d}")
      try:
        found = self._look_at(number, ids[number])
        if found:
          clocks[number] = found
      except errors.DataError as error:
        self.report.keeps(
            getattr(error, "kind", "truncated"), ids[number], str(error))
    if not clocks:
      raise errors.DataError(" ".join([
          f"Nothing in {self.path} can be used.",
          *map(str, self.report.problems), *self.findings]))
    clock = collections.Counter(clocks.values()).most_common(1)[0][0]
    for number, own in clocks.items():
      if own == clock:
        numbers[ids[number]] = number
      else:
        self.report.keeps("clock", ids[number],
                          f"Its rates are {own}, those of most {clock}.")
    return numbers, clock

  def _look_at(self, number: int, name: str) -> types.Clock | None:
    """Checks one episode's files; the clock by timestamps and header.

    None if its length is wrong and reported.
    """
    table = self._files.table(number)
    rows = table.num_rows
    if not rows:
      raise checks.Bad("length", "Its table is empty.")
    for column in self._promised - set(table.column_names):
      raise checks.Bad("features", f"Its table has no column {column!r}.")
    told = self._files.lines.get(number, {}).get("length", rows)
    lengths = {"meta": told, "the table": rows}
    rates = set()
    for camera, clips in self._videos.items():
      if number not in clips:
        raise checks.Bad("missing", f"It has no video of camera {camera!r}.")
      path, first, count = clips[number]
      frames, hz, _, _ = _probe(path, path.stat().st_mtime_ns)
      rates.add(round(hz, 3))
      # A header that tells no length is believed.
      here = frames - first if frames else rows
      lengths[f"camera {camera!r}"] = here if count is None else min(here,
                                                                     count)
    if len(set(lengths.values())) > 1:
      text = ", ".join(f"{what} {length}" for what, length in lengths.items())
      if not self.report.keeps("length", name, f"Frames or rows: {text}."):
        return None
    if len(rates) > 1:
      raise checks.Bad("clock", f"Its cameras have different rates {rates}.")
    video_hz = rates.pop()
    control_hz = float(self._info.get("fps") or video_hz)
    if "timestamp" in table.column_names and rows > 1:
      stamps = np.array(table["timestamp"].to_pylist(), np.float64).reshape(-1)
      control_hz = round(float(1 / np.median(np.diff(stamps))), 3)
    if np.isclose(video_hz, control_hz, rtol=0.01):
      control_hz = video_hz
    else:
      self.findings.append(
          f"Episode {number}: the table runs at {control_hz:g} Hz, the video "
          f"at {video_hz:g} Hz.")
    return types.Clock(video_hz, control_hz)

  @functools.cached_property
  def _promised(self) -> set[str]:
    """Columns that every table must have."""
    described = set(self._info.get("features", {}))
    if not described and self._files.numbers:
      described = set(self._files.table(self._files.numbers[0]).column_names)
    return described & {"observation.state", "action"}

  def _instruction(self, table, line) -> tuple[str, bool]:
    """(instruction, whether it is a dream's)."""
    columns = [f"annotation.{name}" for name in _ANNOTATIONS] + ["task_index"]
    text = ""
    for column in columns:
      if column in table.column_names:
        index = int(np.ravel(table[column][0].as_py())[0])
        text = self._files.tasks.get(index, "")
        if text:
          break
    if not text and line.get("tasks"):
      text = str(line["tasks"][0])
    dream = (text.startswith(DREAM_PREFIX)
             or self._info.get("robot_type") == "dream")
    return text.removeprefix(DREAM_PREFIX).strip(), dream

  def _vector(self, table, name: str, extra) -> np.ndarray | None:
    """float32[n, width] in the embodiment's order, None if there is none."""
    if not extra.get(f"has_{name}", True):
      return None
    keys = getattr(self.embodiment, name)
    slices = self._modality.get(name, {})
    default = "observation.state" if name == "state" else "action"
    if not all(key.name in slices for key in keys):
      values = _column(table, default)
      width = sum(key.dims for key in keys)
      if values is not None and values.shape[1] != width:
        raise checks.Bad(
            "features",
            f"{default!r} of {self.path} has width {values.shape[1]} and no "
            f"modality.json that names its parts; {self.embodiment.name!r} "
            f"needs {width}."
        )
      return values
    parts = []
    for key in keys:
      entry = slices[key.name]
      column = entry.get("original_key", default)
      values = _column(table, column)
      if values is None:
        return None
      part = values[:, entry["start"]:entry["end"]]
      if part.shape[1] != key.dims:
        raise checks.Bad(
            "features",
            f"modality.json of {self.path} gives {key.name!r} "
            f"{part.shape[1]} values; {self.embodiment.name!r} needs "
            f"{key.dims}."
        )
      parts.append(part)
    return np.concatenate(parts, axis=1)


def _column(table, name: str) -> np.ndarray | None:
  if name not in table.column_names:
    return None
  values = np.array(table[name].to_pylist(), np.float32)
  return values.reshape(table.num_rows, -1)


def _extra(line: Mapping[str, Any]) -> dict[str, Any]:
  """What our own export said of an episode; parquet holds it as text."""
  extra = line.get(EXTRA) or {}
  return json.loads(extra) if isinstance(extra, str) else extra


@functools.lru_cache(maxsize=64)
def _probe(path: pathlib.Path, changed: int) -> tuple[int, float, int, int]:
  del changed  # a file that is written again is looked at again
  return video.probe(path)
