"""Reads datasets of episodes: random access by episode, no TensorFlow.

The sidecar index (`dreamgen_index.npz`) holds one row of facts per episode, so
that window tables need no decoding. A dataset that a stock TFDS builder wrote
has none; it is made on first opening.
"""

import hashlib
import pathlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_data_source

from dreamgen_jax import errors, registry, types
from dreamgen_jax.data import jpegs, ranges, record, shards, table

_RECENT = 64  # records of which all but the videos is kept, for more windows


def embodiment_from_dict(value: Mapping[str, Any]) -> types.Embodiment:
  """Inverse of `dataclasses.asdict` for an embodiment."""
  return types.Embodiment(**{
      **value,
      "state": tuple(types.Key(**key) for key in value["state"]),
      "action": tuple(types.Key(**key) for key in value["action"]),
      "clock": types.Clock(**value["clock"]),
  })


class Dataset:
  """A dataset of episodes on disk; thread-safe and picklable.

  Attributes:
    path: its folder.
    name: its TFDS name.
    metadata: facts of the whole dataset.
    embodiment: the robot, as stored with the data.
    cameras: names of the cameras.
    digest: hash of the content; equal data, equal digest.
    ids: episode ids in order.
    index: name -> array with one value per episode (see `record.index_row`).
    weight: how often it is drawn in a mixture, against others.
  """

  weight = 1.0

  def __init__(self, path: str | pathlib.Path, split: str = "train"):
    """Opens a dataset.

    Raises:
      DataError: no such folder, not published, or features that differ from
        `record.features`.
    """
    self.path, self._split = pathlib.Path(path), split
    self._lock, self._source = threading.Lock(), None
    self._record_files: dict[int, ranges.RecordFile] = {}
    self._recent: dict[int, tuple[types.Episode, dict[str, Any]]] = {}
    info = self._info()
    self.name = info.name
    self.metadata = dict(info.metadata or {})
    self._features = info.features
    self._files = [str(file) for file in info.splits[split].filepaths]
    self._shard_lengths = list(info.splits[split].shard_lengths)
    self._shard_ends = np.cumsum(self._shard_lengths)
    self._check_features()
    columns = self._load_index(info.splits[split].num_examples)
    self.digest = str(columns.pop("digest"))
    self.index = table.compact(columns)
    self.ids = table.Names(self.index["id"])

  def __len__(self) -> int:
    return len(self.ids)

  def __repr__(self) -> str:
    return f"Dataset({str(self.path)!r}, {len(self)} episodes)"

  def __getstate__(self) -> dict[str, Any]:
    return self.__dict__ | {
        "_lock": None, "_source": None, "_record_files": {}, "_recent": {}}

  def __setstate__(self, state: dict[str, Any]) -> None:
    self.__dict__.update(state)
    self._lock = threading.Lock()

  @property
  def lengths(self) -> np.ndarray:
    """i64[episodes, 2]: number of frames and of control steps."""
    return np.stack([self.index["frames"], self.index["steps"]], axis=1
                    ).astype(np.int64)

  @property
  def clock(self) -> types.Clock:
    """The rates that all episodes share."""
    return types.Clock(float(self.index["video_hz"][0]),
                       float(self.index["control_hz"][0]))

  def position(self, episode_id: str) -> int:
    """Index of an episode id.

    Raises:
      DataError: there is no such episode.
    """
    try:
      return self.ids.index(episode_id)
    except ValueError:
      raise errors.DataError(
          f"{self.path} has no episode {episode_id!r}."
          + registry.nearest(episode_id, list(self.ids))
      ) from None

  def record(self, i: int) -> dict[str, Any]:
    """Record `i`: arrays with a leading axis of steps, videos as bytes.

    Raises:
      DataError: the record cannot be read.
    """
    if not 0 <= i < len(self):
      raise errors.DataError(
          f"{self.path} has {len(self)} episodes, no number {i}."
      )
    try:
      data = self._open()[int(i)]
      return self._parse(data)
    except errors.DataError:
      raise
    except Exception as error:  # each library below has its own kinds
      raise errors.DataError(
          f"Record {i} of {self.path} is damaged: "
          f"{str(error).splitlines()[0]}"
      ) from error

  def episode(self, i: int, cameras: Sequence[str] | None = None,
              frames: Sequence[int] | np.ndarray | None = None,
              ) -> types.Episode:
    """Episode `i`; see `record.with_video` for cameras and frames.

    A window, which names its frames, is read without the rest of the videos
    where the file is not compressed; hashes are checked of whole records only.
    """
    if frames is None:
      return record.from_record(self.record(i), cameras)
    return record.with_video(*self._in_parts(int(i)), cameras, frames)

  def _in_parts(self, i: int) -> tuple[types.Episode, dict[str, Any]]:
    """(episode `i` without video, its video files), not read if they need not.
    """
    with self._lock:
      if i in self._recent:
        return self._recent[i]
    part = self._part(i)
    if part is None:
      whole = self.record(i)
      return record.without_video(whole), whole["episode_metadata"]["video"]
    try:
      columns = record.columns(part, self._spec)
      files = columns["episode_metadata"]["video"]
      found = record.without_video(columns), {
          camera: jpegs.film(file) or file for camera, file in files.items()}
    except errors.DataError as error:
      raise errors.DataError(
          f"Record {i} of {self.path} is damaged: {error}") from error
    with self._lock:
      while len(self._recent) >= _RECENT:
        del self._recent[next(iter(self._recent))]
      self._recent[i] = found
    return found

  def _part(self, i: int) -> ranges.Part | None:
    """Record `i` in its file; None if it is compressed, or does not exist."""
    if not 0 <= i < len(self):
      return None
    shard = int(np.searchsorted(self._shard_ends, i, side="right"))
    with self._lock:
      if shard not in self._record_files:
        self._record_files[shard] = ranges.RecordFile(
            self._files[shard], self._shard_lengths[shard])
      file = self._record_files[shard]
    return file.part(i - int(self._shard_ends[shard]))

  def _parse(self, data: bytes) -> dict[str, Any]:
    return self._features.deserialize_example_np(
        data, decoders={"steps": tfds.decode.SkipDecoding()}
    )

  def _info(self) -> tfds.core.DatasetInfo:
    if not self.path.is_dir():
      raise errors.DataError(f"There is no dataset folder {self.path}.")
    if not shards.is_published(self.path):
      raise errors.DataError(
          f"{self.path} is not a finished dataset: it has no "
          "dataset_info.json."
      )
    try:
      info = tfds.builder_from_directory(self.path).info
      known = list(info.splits)
    except Exception as error:  # TFDS raises whatever its parsers raise
      raise errors.DataError(
          f"The description of the dataset {self.path} is damaged: "
          f"{str(error).splitlines()[0]}"
      ) from error
    if self._split not in known:
      raise errors.DataError(
          f"{self.path} has no split {self._split!r}, only {known}."
      )
    return info

  def _check_features(self) -> None:
    if "embodiment" not in self.metadata:
      raise errors.DataError(
          f"{self.path} does not say its embodiment: it was not written by "
          "dreamgen_jax; convert it by a builder of tfds_builders."
      )
    self.embodiment = embodiment_from_dict(self.metadata["embodiment"])
    self.cameras = list(self.metadata["cameras"])
    wanted = record.flat(record.features(self.embodiment, self.cameras))
    self._spec = found = record.flat(self._features)
    for name, (shape, dtype) in wanted.items():
      if name not in found:
        if name in record.YOUNGER:
          continue
        raise errors.DataError(f"{self.path} has no feature {name!r}.")
      if found[name] != (shape, dtype):
        raise errors.DataError(
            f"Feature {name!r} of {self.path} is {found[name][1]}"
            f"{list(found[name][0])}; it must be {dtype}{list(shape)}."
        )

  def _open(self):
    with self._lock:
      if self._source is None:
        for file in self._files:
          if not pathlib.Path(file).exists():
            raise errors.DataError(f"The record file {file} is missing.")
        try:
          self._source = array_record_data_source.ArrayRecordDataSource(
              self._files
          )
          held = len(self._source)
        except Exception as error:  # riegeli's errors arrive untyped
          self._source = None
          raise errors.DataError(
              f"A record file of {self.path} is damaged or truncated: "
              f"{str(error).splitlines()[0]}"
          ) from error
        if held != self._num_records:
          self._source = None
          raise errors.DataError(
              f"The record files of {self.path} hold {held} records; "
              f"its description promises {self._num_records}."
          )
      return self._source

  def _load_index(self, num_records: int) -> dict[str, np.ndarray]:
    self._num_records = num_records
    path = self.path / shards.INDEX
    if not path.exists():
      return self._scan(path)
    try:
      with np.load(path) as file:
        index = dict(file)
    except (ValueError, OSError, EOFError) as error:
      raise errors.DataError(
          f"The index {path} is damaged; remove it to have it made again."
      ) from error
    if len(index["id"]) != num_records:
      raise errors.DataError(
          f"The index {path} lists {len(index['id'])} episodes, the dataset "
          f"has {num_records}; remove it to have it made again."
      )
    return index

  def _scan(self, path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads all records once to make the index."""
    rows, content = [], hashlib.sha256()
    source = self._open()
    for data in (source[i] for i in range(self._num_records)):
      content.update(data)
      rows.append(record.index_row(self._parse(data)))
    if len({(row["video_hz"], row["control_hz"]) for row in rows}) > 1:
      raise errors.DataError(f"The episodes of {self.path} differ in clock.")
    shards.write_index(path.parent, rows, content.hexdigest())
    with np.load(path) as file:
      return dict(file)
