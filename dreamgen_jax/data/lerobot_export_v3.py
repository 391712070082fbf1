"""The files of LeRobot v3: many episodes in one parquet and one mp4."""

import fractions
import io
import json
import pathlib
from typing import Any

import av
import pyarrow
import pyarrow.parquet as pq

from dreamgen_jax.data import lerobot

_PER_FILE, _PER_CHUNK = 64, 1000  # episodes in a file, files in a folder
_PLACE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
_DATA = f"data/{_PLACE}.parquet"
_VIDEO = "videos/{video_key}/" + _PLACE + ".mp4"


class Files:
  """Episodes come one after another; `close` writes `meta`."""

  def __init__(self, root: pathlib.Path):
    """Writes below `root`, a folder that need not exist."""
    self._root = root
    self._tables: list[pyarrow.Table] = []
    self._films: dict[str, _Film] = {}
    self._place: dict[str, int] = {}
    self._rows = 0

  def add(self, number: int, table: pyarrow.Table, videos: dict[str, bytes],
          hz: float) -> dict[str, Any]:
    """Writes an episode; returns where it lies, for its line in `meta`."""
    if number % _PER_FILE == 0:
      self._finish()
      chunk, file = divmod(number // _PER_FILE, _PER_CHUNK)
      self._place = {"chunk_index": chunk, "file_index": file}
      self._films = {
          key: _Film(self._path(_VIDEO, video_key=key), hz) for key in videos}
    self._tables.append(table)
    line: dict[str, Any] = {
        f"data/{name}": value for name, value in self._place.items()}
    line |= {"dataset_from_index": self._rows,
             "dataset_to_index": self._rows + len(table)}
    self._rows += len(table)
    for key, data in videos.items():
      begin, end = self._films[key].add(data)
      line |= {f"videos/{key}/{name}": value
               for name, value in self._place.items()}
      line |= {f"videos/{key}/from_timestamp": begin,
               f"videos/{key}/to_timestamp": end}
    return line

  def close(self, info: dict[str, Any], lines: list[dict[str, Any]],
            tasks: dict[str, int], stats: list[dict[str, Any]],
            merged: dict[str, Any]) -> None:
    """Writes the last files, and `meta`."""
    self._finish()
    meta = self._root / "meta"
    meta.mkdir()
    for name in ("total_videos", "total_chunks"):
      del info[name]
    if info["fps"] == int(info["fps"]):
      info["fps"] = int(info["fps"])
    info |= {"data_path": _DATA, "video_path": _VIDEO,
             "data_files_size_in_mb": 100, "video_files_size_in_mb": 200}
    (meta / "info.json").write_text(json.dumps(info, indent=2))
    (meta / "stats.json").write_text(json.dumps(merged))
    rows = []
    for line, each in zip(lines, stats, strict=True):
      extra = json.dumps(line[lerobot.EXTRA])
      rows.append({
          **line, lerobot.EXTRA: extra, "meta/episodes/chunk_index": 0,
          "meta/episodes/file_index": 0,
          **{f"stats/{feature}/{name}": value
             for feature, found in each.items()
             for name, value in found.items()}})
    file = meta / "episodes" / "chunk-000" / "file-000.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pyarrow.Table.from_pylist(rows), file)
    pq.write_table(_tasks(tasks), meta / "tasks.parquet")

  def _path(self, pattern: str, **names: str) -> pathlib.Path:
    path = self._root / pattern.format(**self._place, **names)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path

  def _finish(self) -> None:
    """Closes the files that are being written."""
    if self._tables:
      pq.write_table(pyarrow.concat_tables(self._tables), self._path(_DATA))
    for film in self._films.values():
      film.close()
    self._tables, self._films = [], {}


class _Film:
  """Videos of one kind, joined without coding them again."""

  def __init__(self, path: pathlib.Path, hz: float):
    self._container = av.open(str(path), "w")
    self._stream: Any = None
    self._frames = 0
    self._rate = fractions.Fraction(float(hz)).limit_denominator(1000)

  def add(self, data: bytes) -> tuple[float, float]:
    """Appends an mp4; (begin, end) in seconds."""
    begin = self._frames
    container: Any
    with av.open(io.BytesIO(data)) as container:
      stream = container.streams.video[0]
      if self._stream is None:
        self._stream = self._container.add_stream_from_template(stream)
      ticks = int(1 / (self._rate * stream.time_base))  # per frame
      for packet in container.demux(stream):
        if packet.size:
          packet.pts += begin * ticks
          packet.dts += begin * ticks
          packet.stream = self._stream
          self._container.mux(packet)
          self._frames += 1
    return float(begin / self._rate), float(self._frames / self._rate)

  def close(self) -> None:
    """Ends the file."""
    self._container.close()


def _tasks(tasks: dict[str, int]) -> pyarrow.Table:
  """A table that pandas opens with the sentences as its index."""
  index = "__index_level_0__"
  column = {"name": "task_index", "field_name": "task_index",
            "pandas_type": "int64", "numpy_type": "int64", "metadata": None}
  text = {"name": None, "field_name": index, "pandas_type": "unicode",
          "numpy_type": "object", "metadata": None}
  table = pyarrow.table({"task_index": list(tasks.values()),
                         index: list(tasks)})
  return table.replace_schema_metadata({"pandas": json.dumps({
      "index_columns": [index], "columns": [column, text],
      "column_indexes": [{**text, "field_name": None}],
      "pandas_version": "2.0.0", "creator": {"library": "pyarrow"}})})
