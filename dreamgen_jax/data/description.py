"""What a TFDS folder says of itself, without TensorFlow: features and files.

Folders may be local, or remote (gs://, s3://) where etils finds a library for
them, such as gcsfs. Where features.json is missing, the features are those that
the first records show.
"""

import dataclasses
import itertools
import math
import os
import pathlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core import dataset_info, naming
from tensorflow_datasets.core import splits as tfds_splits

from dreamgen_jax import errors
from dreamgen_jax.data import example, pictures, ranges, records

_INFO, _FEATURES = "dataset_info.json", "features.json"
_LOOKED_AT = 4  # records that tell what a dataset holds


@dataclasses.dataclass(frozen=True)
class Field:
  """One feature.

  Attributes:
    shape: of its value; without the axis of steps, where it has one.
    dtype: numpy's name of it; "text" for strings.
    coding: "numbers", "text", "image" (encoded), or "raw" and "zlib" for
      arrays that are kept as bytes.
    in_steps: whether there is one value per step.
  """

  shape: tuple[int | None, ...]
  dtype: str
  coding: str
  in_steps: bool

  @property
  def size(self) -> int:
    """Numbers per value; 0 where the shape is open."""
    return math.prod(n or 0 for n in self.shape)

  def __str__(self) -> str:
    shape = ", ".join("?" if n is None else str(n) for n in self.shape)
    kind = "image" if self.coding == "image" else self.dtype
    return f"{kind}[{shape}]" if shape else kind


@dataclasses.dataclass(frozen=True)
class Shard:
  """One file of records; `count` is what the description promises."""

  split: str
  number: int
  file: str
  count: int
  found: bool


@dataclasses.dataclass(frozen=True)
class Description:
  """A dataset's folder.

  Attributes:
    path: where dataset_info.json lies; as text, as it may be remote.
    name: TFDS's.
    fields: path of each feature, joined by "/" -> what it is.
    shards: all splits' files, in order.
    format: "tfrecord" or "array_record".
    metadata: what the builder added.
    guessed: whether the fields are those of the first records.
  """

  path: str
  name: str
  fields: dict[str, Field]
  shards: tuple[Shard, ...]
  format: str
  metadata: dict[str, Any]
  guessed: bool = False

  @property
  def splits(self) -> list[str]:
    """Names, in order."""
    return list(dict.fromkeys(shard.split for shard in self.shards))


def read(path: str | os.PathLike) -> Description:
  """Reads the description of a folder, or of the newest version in it.

  Raises:
    DataError: no such folder, no description, or a damaged one.
  """
  folder = find(path)
  try:
    if not (epath.Path(folder) / _FEATURES).exists():
      return _without_features(folder)
    info = tfds.builder_from_directory(folder).info
    shards = _shards(folder, info.splits)
    return Description(
        path=folder, name=info.name,
        fields=dict(sorted(_fields(info.features).items())),
        shards=tuple(shards), format=info.file_format.value,
        metadata=dict(info.metadata or {}))
  except errors.DataError:
    raise
  except Exception as error:  # TFDS raises whatever its parsers raise
    raise errors.DataError(
        f"The description of the dataset {folder} cannot be read: "
        f"{_first_line(error)}") from error


def find(path: str | os.PathLike) -> str:
  """The folder of dataset_info.json: `path`, or its newest version below."""
  try:
    folder = epath.Path(path)
    if not folder.is_dir():
      raise errors.DataError(f"There is no dataset folder {path}.")
    for _ in range(3):  # name/config/version
      if (folder / _INFO).exists():
        return os.fspath(folder)
      inner = [child for child in folder.iterdir()
               if child.is_dir() and not child.name.startswith(".")]
      versions = [child for child in inner if _version(child.name)]
      if not versions and len(inner) != 1:
        break
      folder = max(versions, key=lambda child: _version(child.name),
                   default=inner[0])
  except (ImportError, KeyError, OSError) as error:
    raise errors.DataError(
        f"{path} cannot be opened: {_first_line(error)}.") from error
  raise errors.DataError(
      f"{path} is not a finished TFDS dataset: it has no {_INFO}.")


def first_records(shards: Iterable[Shard], format: str
                  ) -> list[dict[str, example.Feature]]:
  """The features of a few records of the first file that is there."""
  file = next(shard.file for shard in shards if shard.found)
  with records.opened(file, format) as record:
    return [example.features(ranges.Part.of(record(*place).read()))
            for place in itertools.islice(
                records.scan(file, format), _LOOKED_AT)]


def _without_features(folder: str) -> Description:
  info = dataset_info.read_proto_from_builder_dir(folder)
  format = info.file_format or "tfrecord"
  shards = tuple(_shards(folder, tfds_splits.SplitDict.from_proto(
      info.splits, naming.ShardedFileTemplate(
          data_dir=epath.Path(folder), dataset_name=info.name,
          filetype_suffix=format))))
  return Description(
      path=folder, name=info.name,
      fields=guess(first_records(shards, format)),
      shards=shards, format=format, metadata={}, guessed=True)


def guess(found: Sequence[Mapping[str, example.Feature]]) -> dict[str, Field]:
  """Fields by what some records hold.

  A group ("steps/...") has as many steps as pictures, or as its shortest list
  is long; lists that are a whole multiple of that, the same in all records,
  have a value per step.
  """
  held = [{name: feature.values() for name, feature in each.items()}
          for each in found]
  steps = []
  for values in held:
    counts: dict[str, tuple[bool, int]] = {}
    for name, value in values.items():
      here = not pictures.are(value), len(value)
      counts[_group(name)] = min(counts.get(_group(name), here), here)
    steps.append({group: count for group, (_, count) in counts.items()})
  fields = {}
  for name in sorted(set().union(*held)):
    lists = [(values[name], n[_group(name)])
             for values, n in zip(held, steps, strict=True) if name in values]
    in_steps = all(n > 1 and not len(value) % n for value, n in lists)
    widths = {len(value) // n if in_steps else len(value)
              for value, n in lists}
    in_steps = in_steps and len(widths) == 1
    width = widths.pop() if len(widths) == 1 else None
    shape = () if width == 1 else (width,)
    first = lists[0][0]
    if isinstance(first, np.ndarray):
      fields[name] = Field(shape, first.dtype.name, "numbers", in_steps)
    elif pictures.are(first):
      fields[name] = Field((None, None, 3), "uint8", "image", in_steps)
    else:
      fields[name] = Field(shape, "text", "text", in_steps)
  return fields


def numbers(field: Field, values: Any) -> Any:
  """A feature's values, as `example.Feature` has them; coded arrays as numbers.

  Raises:
    DataError: bytes that are no such code.
  """
  if field.coding not in ("raw", "zlib"):
    return values
  try:
    return np.concatenate([np.frombuffer(
        zlib.decompress(value) if field.coding == "zlib" else value,
        field.dtype) for value in values])
  except (ValueError, zlib.error) as error:
    raise errors.DataError(f"bytes are no {field}: {error}") from error


def _group(name: str) -> str:
  return name.rpartition("/")[0] and name.partition("/")[0]


def _fields(feature: Any, name: str = "", in_steps: bool = False
            ) -> dict[str, Field]:
  """Path -> field, of a feature and all that is in it."""
  if isinstance(feature, tfds.features.FeaturesDict):
    return {
        path: field for key, child in feature.items()
        for path, field in _fields(
            child, f"{name}/{key}" if name else key, in_steps).items()}
  if isinstance(feature, tfds.features.Dataset | tfds.features.Sequence):
    inner = _fields(feature.feature, name, True)
    return inner if not in_steps else {  # a list in every step
        path: dataclasses.replace(field, shape=(None, *field.shape))
        for path, field in inner.items()}
  dtype = np.dtype(feature.np_dtype)
  if isinstance(feature, tfds.features.Image):
    coding = "image"
  elif dtype.kind in "OSU":
    coding = "text"
  else:
    way = getattr(getattr(feature, "_encoding", None), "value", "none")
    coding = {"none": "numbers", "bytes": "raw"}.get(str(way), str(way))
  shape = tuple(feature.shape)
  if not in_steps and shape[:1] == (None,) and coding != "image":
    shape, in_steps = shape[1:], True  # one array for all steps
  return {name: Field(
      shape, "text" if coding == "text" else dtype.name, coding, in_steps)}


def _shards(folder: str, splits: Mapping[str, Any]) -> list[Shard]:
  there = {child.name for child in epath.Path(folder).iterdir()}
  found = [
      Shard(name, number, os.fspath(file), count,
            pathlib.PurePosixPath(file).name in there)
      for name, split in splits.items()
      for number, (file, count) in enumerate(
          zip(split.filepaths, split.shard_lengths, strict=True))]
  if not any(shard.found for shard in found):
    raise errors.DataError(
        f"{folder} has none of the {len(found)} record files that its "
        "description names.")
  return found


def _version(name: str) -> tuple[int, ...]:
  parts = name.split(".")
  if len(parts) != 3 or not all(part.isdigit() for part in parts):
    return ()
  return tuple(int(part) for part in parts)


def _first_line(error: BaseException) -> str:
  lines = str(error).strip().splitlines() or [type(error).__name__]
  return lines[0].rstrip(".")
