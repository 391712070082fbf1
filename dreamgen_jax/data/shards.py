"""Shards of records with receipts: writing that survives kills.

A dataset is `num_shards` ArrayRecord files. Each is written under a temporary
name, renamed, and then acknowledged by a receipt (`_shards/<split>-<i>.json`)
that holds the key of its inputs and the hash of its content. A shard whose
receipt agrees is never written again. `publish` checks all receipts and puts
TFDS's `features.json` and, as the very last file, `dataset_info.json` in
place: a folder without it is not a dataset yet. Until a shard is written, its
finished episodes lie beside it, see `pieces`. Local (or mounted) folders.
"""

import collections
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from etils import epath
from tensorflow_datasets.core import example_serializer, naming
from tensorflow_datasets.core import splits as tfds_splits

from dreamgen_jax import errors
from dreamgen_jax.data import pieces, table

INDEX = "dreamgen_index.npz"
_INFO = "dataset_info.json"


def digest_of(value: Any) -> str:
  """SHA-256 of a JSON-able value."""
  text = json.dumps(value, sort_keys=True, separators=(",", ":"))
  return hashlib.sha256(text.encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Writer:
  """Writes and publishes the shards of one split.

  Attributes:
    path: the dataset's folder.
    name: its TFDS name (snake_case).
    features: tfds.features.FeaturesDict of tensors, text and scalars.
    num_shards: fixed before the first shard is written.
    split: name of the split.
  """

  path: pathlib.Path
  name: str
  features: tfds.features.FeaturesDict
  num_shards: int
  split: str = "train"

  def file(self, shard: int) -> pathlib.Path:
    """Where shard `shard` lies."""
    return pathlib.Path(
        self._template().sharded_filepath(
            shard_index=shard, num_shards=self.num_shards
        )
    )

  def receipt(self, shard: int) -> dict[str, Any] | None:
    """The receipt of a finished shard, None if it is missing or stale."""
    path = self._receipt_path(shard)
    if not path.exists() or not self.file(shard).exists():
      return None
    receipt = json.loads(path.read_text())
    agrees = (
        receipt["num_shards"] == self.num_shards
        and receipt["file_bytes"] == self.file(shard).stat().st_size
    )
    return receipt if agrees else None

  def has(self, shard: int, key: str) -> bool:
    """Whether the shard is written, from inputs of this key."""
    receipt = self.receipt(shard)
    return receipt is not None and receipt["key"] == key

  def store(self, key: str) -> pieces.Pieces:
    """Episodes of a dataset of this key whose shards are not written."""
    return pieces.Pieces(
        self.path / "_shards" / f"pieces-{self.split}-{key[:16]}")

  def serialize(self, record: dict[str, Any]) -> bytes:
    """A record as it lies in its shard."""
    return self._serializer.get_tf_example(record).SerializeToString(
        deterministic=True)

  @functools.cached_property
  def _serializer(self) -> Any:
    return example_serializer.ExampleSerializer(
        self.features.get_serialized_info())

  def write(self, shard: int, key: str,
            records: Iterable[tuple[bytes, dict[str, Any]]]) -> bool:
    """Writes one shard unless its receipt already carries `key`.

    Args:
      shard: index of the shard.
      key: digest of everything that its records are made from.
      records: pairs (serialized record, JSON-able facts for the index),
        drawn only if the shard has to be written; the facts must hold a
        unique "id".

    Returns:
      Whether anything was written.
    """
    if self.has(shard, key):
      return False
    final, side = self.file(shard), self._receipt_path(shard)
    side.parent.mkdir(parents=True, exist_ok=True)
    side.unlink(missing_ok=True)  # no receipt while the data changes
    temporary = final.with_name(f"incomplete.{uuid.uuid4().hex}.{final.name}")
    # Compressed video does not shrink; plain records read faster.
    file = array_record_module.ArrayRecordWriter(
        os.fspath(temporary), "group_size:1,uncompressed"
    )
    content, rows, num_bytes = hashlib.sha256(), [], 0
    try:
      for data, row in records:
        file.write(data)
        content.update(len(data).to_bytes(8, "little") + data)
        num_bytes += len(data)
        rows.append(row)
    except BaseException:
      file.close()
      temporary.unlink()
      raise
    file.close()
    os.replace(temporary, final)
    _write_text(side, json.dumps({
        "shard": shard, "num_shards": self.num_shards, "key": key,
        "content": content.hexdigest(), "num_bytes": num_bytes,
        "file_bytes": final.stat().st_size, "rows": rows,
    }))
    return True

  def publish(self, identity: dict[str, Any], metadata: dict[str, Any]) -> str:
    """Makes the shards a dataset; returns the digest of its content.

    Args:
      identity: JSON-able facts that give the records their meaning.
      metadata: further facts; these do not enter the digest.

    Raises:
      DataError: shards are missing, no episode in any, or an id twice.
    """
    found = [self.receipt(shard) for shard in range(self.num_shards)]
    receipts = [receipt for receipt in found if receipt is not None]
    if len(receipts) < self.num_shards:
      missing = [i for i, receipt in enumerate(found) if receipt is None]
      raise errors.DataError(
          f"Cannot publish {self.path}: shards {missing} of "
          f"{self.num_shards} are not written yet."
      )
    rows = [row for receipt in receipts for row in receipt["rows"]]
    if not rows:
      raise errors.DataError(f"Cannot publish {self.path}: it has no episode.")
    counts = collections.Counter(row["id"] for row in rows)
    if len(counts) < len(rows):
      raise errors.DataError(
          f"Cannot publish {self.path}: episode id "
          f"{counts.most_common(1)[0][0]!r} occurs more than once."
      )
    digest = digest_of([
        self.features.to_json(), identity,
        [receipt["content"] for receipt in receipts],
    ])
    write_index(self.path, rows, digest)
    self._write_info(receipts, metadata | identity | {"digest": digest})
    self._clean()
    return digest

  def _write_info(self, receipts, metadata) -> None:
    identity = tfds.core.DatasetIdentity(
        name=self.name, version=tfds.core.Version("1.0.0"),
        data_dir=os.fspath(self.path), module_name="",
    )
    info = tfds.core.DatasetInfo(
        builder=identity, features=self.features,
        metadata=tfds.core.MetadataDict(metadata),
    )
    info.set_file_format("array_record")
    info.set_splits(tfds_splits.SplitDict([
        tfds_splits.SplitInfo(
            name=self.split,
            shard_lengths=[len(receipt["rows"]) for receipt in receipts],
            num_bytes=sum(receipt["num_bytes"] for receipt in receipts),
            filename_template=self._template(),
        )
    ]))
    staging = self.path / f"incomplete.{uuid.uuid4().hex}"
    staging.mkdir()
    info.write_to_directory(epath.Path(staging))
    for file in sorted(staging.iterdir(), key=lambda file: file.name == _INFO):
      os.replace(file, self.path / file.name)
    staging.rmdir()

  def _clean(self) -> None:
    """Removes what killed runs and runs with other shard counts left."""
    wanted = {self.file(shard).name for shard in range(self.num_shards)}
    for file in self.path.glob(f"{self.name}-{self.split}.array_record-*"):
      if file.name not in wanted:
        file.unlink()
    for file in self.path.glob("incomplete.*"):
      if file.is_file():
        file.unlink()
    for folder in self.path.glob(f"_shards/pieces-{self.split}-*"):
      shutil.rmtree(folder)
    for shard in self.path.glob(f"_shards/{self.split}-*.json"):
      if int(shard.stem.rsplit("-", 1)[1]) >= self.num_shards:
        shard.unlink()

  def _template(self) -> naming.ShardedFileTemplate:
    return naming.ShardedFileTemplate(
        data_dir=epath.Path(self.path), dataset_name=self.name,
        split=self.split, filetype_suffix="array_record",
    )

  def _receipt_path(self, shard: int) -> pathlib.Path:
    return self.path / "_shards" / f"{self.split}-{shard:05d}.json"


def is_published(path: pathlib.Path) -> bool:
  """Whether the folder is a finished dataset."""
  return (path / _INFO).exists()


def unpublish(path: pathlib.Path) -> None:
  """Takes the dataset's finished mark away; shards stay."""
  for name in (_INFO, INDEX):
    (path / name).unlink(missing_ok=True)


def split_evenly(items: Sequence[Any], num_shards: int) -> list[list[Any]]:
  """Contiguous parts in order, sizes differing by at most one."""
  bounds = np.linspace(0, len(items), num_shards + 1).astype(int)
  return [list(items[a:b]) for a, b in itertools.pairwise(bounds)]


def write_index(path: pathlib.Path, rows: list[dict[str, Any]],
                digest: str) -> None:
  """Writes the sidecar index: one column per fact of an episode."""
  temporary = path / f"incomplete.{uuid.uuid4().hex}.npz"
  columns: dict[str, Any] = {
      name: np.array([row[name] for row in rows]) for name in rows[0]
  }
  with temporary.open("wb") as file:
    held: dict[str, Any] = {**table.compact(columns)}
    np.savez(file, **held, digest=np.array(digest))
  os.replace(temporary, path / INDEX)


def _write_text(path: pathlib.Path, text: str) -> None:
  temporary = path.with_name(f"incomplete.{uuid.uuid4().hex}")
  temporary.write_text(text)
  os.replace(temporary, path)
