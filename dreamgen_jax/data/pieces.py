"""Finished episodes before their shard is: one small file each.

A dream costs minutes and a shard holds hundreds, so every episode is on disk
as soon as it is made, whoever made it. A piece holds the serialized record and
its index row, or says that the episode was left out.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterable
from typing import Any

from dreamgen_jax import errors

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Pieces:
  """The pieces of one dataset in the making.

  Attributes:
    folder: holds nothing else.
  """

  folder: pathlib.Path

  def missing(self, ids: Iterable[str]) -> list[str]:
    """Those of the ids that are not here yet, in order."""
    # One listing: hosts that share a disk see files late that they asked for.
    have = set(os.listdir(self.folder)) if self.folder.is_dir() else set()
    return [id_ for id_ in ids if name_of(id_) not in have]

  def put(self, id_: str, data: bytes = b"", row: Row | None = None) -> None:
    """Keeps an episode, whole or not at all; without a row, it was left out."""
    self.folder.mkdir(parents=True, exist_ok=True)
    head = json.dumps(row).encode()
    temporary = self.folder / f"incomplete.{uuid.uuid4().hex}"
    with temporary.open("wb") as file:
      file.write(len(head).to_bytes(4, "little") + head + data)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, self.folder / name_of(id_))

  def get(self, id_: str) -> tuple[bytes, Row] | None:
    """(serialized record, index row), or None of one that was left out.

    Raises:
      DataError: there is no such piece.
    """
    try:
      content = (self.folder / name_of(id_)).read_bytes()
    except FileNotFoundError as error:
      raise errors.DataError(
          f"Episode {id_!r} is not in {self.folder}, though a host finished "
          "it; run the same command again.") from error
    size = 4 + int.from_bytes(content[:4], "little")
    row = json.loads(content[4:size])
    return None if row is None else (content[size:], row)

  def remove(self, ids: Iterable[str]) -> None:
    """Forgets those whose shard is written."""
    for id_ in ids:
      (self.folder / name_of(id_)).unlink(missing_ok=True)

  def clear(self) -> None:
    """Forgets all."""
    shutil.rmtree(self.folder, ignore_errors=True)


def name_of(id_: str) -> str:
  """The file of an episode; also the order in which hosts are dealt work."""
  return hashlib.sha256(id_.encode()).hexdigest()[:32]


def deal(ids: list[str], host: int, hosts: int) -> list[str]:
  """This host's part of the ids, in their order; the parts are even.

  Depends on the ids alone, so that hosts agree without speaking.
  """
  rank = {id_: i for i, id_ in enumerate(sorted(set(ids), key=name_of))}
  return [id_ for id_ in ids if rank[id_] % hosts == host]
