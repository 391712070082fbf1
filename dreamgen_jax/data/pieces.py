"""Finished episodes before their shard is: one small file each.

A dream costs minutes and a shard holds hundreds, so every episode is on disk
as soon as it is made, whoever made it. A piece holds the serialized record and
its index row, or says that the episode was left out, and what there is to note.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import uuid
from collections.abc import Iterable
from typing import IO, Any

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

  def put(self, id_: str, data: bytes = b"", row: Row | None = None,
          note: Any = None) -> None:
    """Keeps an episode, whole or not at all; without a row, it was left out."""
    self.folder.mkdir(parents=True, exist_ok=True)
    head = json.dumps([row, note]).encode()
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
    with self._opened(id_) as file:
      row, _ = _head(file)
      return None if row is None else (file.read(), row)

  def note(self, id_: str) -> Any:
    """What was noted of an episode.

    Raises:
      DataError: there is no such piece.
    """
    with self._opened(id_) as file:
      return _head(file)[1]

  def remove(self, ids: Iterable[str]) -> None:
    """Forgets those whose shard is written."""
    for id_ in ids:
      (self.folder / name_of(id_)).unlink(missing_ok=True)

  def _opened(self, id_: str) -> IO[bytes]:
    try:
      return (self.folder / name_of(id_)).open("rb")
    except FileNotFoundError as error:
      raise errors.DataError(
          f"Episode {id_!r} is not in {self.folder}, though a host finished "
          "it; run the same command again.") from error


def _head(file: IO[bytes]) -> list[Any]:
  """[index row, note]; leaves the file where the record begins."""
  return json.loads(file.read(int.from_bytes(file.read(4), "little")))


def name_of(id_: str) -> str:
  """The file of an episode; also the order in which hosts are dealt work."""
  return hashlib.sha256(id_.encode()).hexdigest()[:32]


def deal(ids: list[str], host: int, hosts: int) -> list[str]:
  """This host's part of the ids, in their order; the parts are even.

  Depends on the ids alone, so that hosts agree without speaking.
  """
  rank = {id_: i for i, id_ in enumerate(sorted(set(ids), key=name_of))}
  return [id_ for id_ in ids if rank[id_] % hosts == host]
