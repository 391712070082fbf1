"""Where LeRobot keeps what: one file per episode (v2), or shared files (v3).

Both versions answer the same questions: which episodes there are, an episode's
rows, and its part of a video file.
"""

import functools
import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow
import pyarrow.parquet as pq

from dreamgen_jax import errors

_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


class Clip(NamedTuple):
  """An episode's frames: all of a file, or `frames` from `first` on."""

  path: pathlib.Path
  first: int = 0
  frames: int | None = None


class Files(Protocol):
  """A version's files.

  Attributes:
    lines: episode number -> what the meta data says of it.
    tasks: task index -> sentence.
    numbers: episodes whose rows are somewhere, in order.
  """

  lines: dict[int, dict[str, Any]]
  tasks: dict[int, str]
  numbers: list[int]

  def table(self, number: int) -> pyarrow.Table:
    """An episode's rows."""

  def clips(self, key: str) -> dict[int, Clip]:
    """Episode number -> its part of the video `key`, where the file is."""

  def check(self, info: Mapping[str, Any], videos: int) -> Iterator[str]:
    """Sentences on what info.json promises and what was found."""

  def __iter__(self) -> Iterator[pathlib.Path]:
    """All files that hold rows."""


def open_version(path: pathlib.Path, info: Mapping[str, Any],
                 findings: list[str]) -> Files:
  """The files of a folder; what is odd is appended to `findings`.

  Raises:
    DataError: an unsupported version.
  """
  version = str(info.get("codebase_version", "v2.0"))
  for known, files in (("v2", V2), ("v3", V3)):
    if version.startswith(known):
      return files(path, info, findings)
  raise errors.DataError(
      f"{path} is LeRobot {version}; v2.0, v2.1 and v3 can be read.")


class V2:
  """One parquet and one mp4 per episode."""

  def __init__(self, path: pathlib.Path, info: Mapping[str, Any],
               findings: list[str]):
    """Lists the files and reads the lines of `meta`."""
    del info  # the files on disk count
    self._path = path
    self.lines = {
        int(line["episode_index"]): line
        for line in _jsonl(path, "episodes", findings)
        if "episode_index" in line}
    self.tasks = {
        int(line["task_index"]): str(line["task"])
        for line in _jsonl(path, "tasks", findings)
        if {"task_index", "task"} <= set(line)}
    self._tables = self._numbered("data/chunk-*/episode_*.parquet")
    self.numbers = sorted(self._tables)

  def __iter__(self) -> Iterator[pathlib.Path]:
    return iter(self._tables.values())

  def table(self, number: int) -> pyarrow.Table:
    """See `Files`."""
    return read(self._tables[number])

  def clips(self, key: str) -> dict[int, Clip]:
    """See `Files`."""
    found = self._numbered(f"videos/chunk-*/{key}/episode_*.mp4")
    return {number: Clip(file) for number, file in found.items()}

  def check(self, info: Mapping[str, Any], videos: int) -> Iterator[str]:
    """See `Files`."""
    chunks = len(list(self._path.glob("data/chunk-*")))
    promised = info.get("total_chunks", chunks)
    if promised != chunks:
      yield f"info.json promises {promised} chunks, {chunks} were found."
    promised = info.get("total_videos", videos)
    if promised != videos:
      yield f"info.json promises {promised} videos, {videos} were found."

  def _numbered(self, pattern: str) -> dict[int, pathlib.Path]:
    found = {}
    for file in sorted(self._path.glob(pattern)):
      match = re.fullmatch(r"episode_(\d+)", file.stem)
      if match:
        found[int(match[1])] = file
    return found


class V3:
  """Many episodes in a parquet or mp4; `meta/episodes` says where."""

  def __init__(self, path: pathlib.Path, info: Mapping[str, Any],
               findings: list[str]):
    """Reads `meta`."""
    self._path, self._info = path, info
    self.lines, self.tasks = {}, {}
    for file in sorted((path / "meta" / "episodes").glob("*/*.parquet")):
      names = [name for name in pq.read_schema(file).names
               if not name.startswith("stats/")]
      for row in read(file, names).to_pylist():
        self.lines[int(row["episode_index"])] = row
    if not self.lines:
      findings.append("meta/episodes holds no episode.")
    try:
      for row in read(path / "meta" / "tasks.parquet").to_pylist():
        index = int(row.pop("task_index"))
        self.tasks[index] = str(next(iter(row.values())))
    except errors.DataError as error:
      findings.append(str(error))
    self.numbers = sorted(
        number for number, line in self.lines.items()
        if self._file("data", line, "data_path", _DATA).exists())

  def __iter__(self) -> Iterator[pathlib.Path]:
    return iter({self._file("data", self.lines[number], "data_path", _DATA)
                 for number in self.numbers})

  def table(self, number: int) -> pyarrow.Table:
    """See `Files`."""
    file = self._file("data", self.lines[number], "data_path", _DATA)
    table = _shared(file, file.stat().st_mtime_ns)
    if "episode_index" not in table.column_names:
      raise errors.DataError(f"{file} has no column 'episode_index'.")
    rows = np.flatnonzero(table["episode_index"].to_numpy() == number)
    if not len(rows):
      raise errors.DataError(f"{file} has no row of it.")
    return table.slice(int(rows[0]), len(rows))

  def clips(self, key: str) -> dict[int, Clip]:
    """See `Files`."""
    found, hz = {}, float(self._info.get("fps", 0))
    for number, line in self.lines.items():
      if line.get(f"videos/{key}/file_index") is None:
        continue
      file = self._file(f"videos/{key}", line, "video_path", _VIDEO, key)
      if file.exists():
        first = round(line[f"videos/{key}/from_timestamp"] * hz)
        last = round(line[f"videos/{key}/to_timestamp"] * hz)
        found[number] = Clip(file, first, last - first)
    return found

  def check(self, info: Mapping[str, Any], videos: int) -> Iterator[str]:
    """See `Files`."""
    lost = len(self.lines) - len(self.numbers)
    if lost:
      yield f"The rows of {lost} episodes have no parquet file."

  def _file(self, prefix: str, line: Mapping[str, Any], name: str,
            default: str, key: str = "") -> pathlib.Path:
    pattern = self._info.get(name) or default
    return self._path / pattern.format(
        video_key=key, chunk_index=line[f"{prefix}/chunk_index"],
        file_index=line[f"{prefix}/file_index"])


def read(path: pathlib.Path, columns: list[str] | None = None) -> pyarrow.Table:
  """A parquet file.

  Raises:
    DataError: it is missing or damaged.
  """
  try:
    return pq.read_table(path, columns=columns)
  except (pyarrow.ArrowException, OSError) as error:
    raise errors.DataError(
        f"{path} cannot be read: {str(error).splitlines()[0]}") from error


@functools.lru_cache(maxsize=2)  # episodes are asked for in order
def _shared(path: pathlib.Path, changed: int) -> pyarrow.Table:
  del changed  # a file that is written again is read again
  return read(path)


def _jsonl(root: pathlib.Path, name: str,
           findings: list[str]) -> list[dict[str, Any]]:
  path = root / "meta" / f"{name}.jsonl"
  if not path.exists():
    findings.append(f"meta/{name}.jsonl is missing.")
    return []
  lines, bad = [], 0
  for text in filter(str.strip, path.read_text().splitlines()):
    try:
      lines.append(json.loads(text))
    except ValueError:
      bad += 1
  if bad:
    findings.append(f"{bad} lines of meta/{name}.jsonl are not JSON.")
  return lines
