"""Episodes on disk: what the rest of the house imports to read and write.

The spec is in `record`, the reader in `dataset`, resumable files in `shards`.
The stock `tfds.builder_from_directory(path).as_data_source()` opens all that
is written here.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dreamgen_jax import errors, types
from dreamgen_jax.data import dataset, pieces, record, shards

Dataset = dataset.Dataset
features = record.features
from_record = record.from_record
num_steps = record.num_steps
to_record = record.to_record


@dataclasses.dataclass(frozen=True)
class Plan:
  """A dataset in the making: what goes where, and what is done already.

  Any process that sees the folder may keep episodes and, once none is missing,
  write shards; one then publishes. Picklable.

  Attributes:
    path: the dataset's folder.
    name: TFDS name, snake_case.
    ids: of all episodes, in order.
    embodiment: its layout is stored with the data.
    cameras: that are kept.
    num_shards: number of files.
    digest: key of everything that the episodes depend on besides their ids.
    codec: of the videos, see `video.encode`.
    content: digests of episodes that were made before.
  """

  path: pathlib.Path
  name: str
  ids: tuple[str, ...]
  embodiment: types.Embodiment
  cameras: tuple[str, ...]
  num_shards: int = 1
  digest: str = ""
  codec: str = "h264"
  content: tuple[str, ...] = ()

  def __post_init__(self):
    if not 1 <= self.num_shards <= len(self.ids):
      raise errors.DataError(
          "num_shards must be between 1 and the number of episodes "
          f"({len(self.ids)}), not {self.num_shards}.")

  def __getstate__(self) -> dict[str, Any]:
    return {field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)}

  @functools.cached_property
  def writer(self) -> shards.Writer:
    """Of the shards."""
    return shards.Writer(
        self.path, self.name, record.features(self.embodiment, self.cameras),
        self.num_shards)

  @functools.cached_property
  def key(self) -> str:
    """Digest of all that the dataset is made from."""
    return shards.digest_of([
        self.digest, self.name, self.ids, self.content, self.num_shards,
        self.writer.features.to_json(), dataclasses.asdict(self.embodiment),
        *([] if self.codec == "h264" else [self.codec])])

  @property
  def store(self) -> pieces.Pieces:
    """The episodes that are made, until their shard is written."""
    return self.writer.store(self.key)

  def finished(self, overwrite: bool = False) -> dataset.Dataset | None:
    """The dataset, if it is published.

    Raises:
      DataError: another one is, which is not to be overwritten.
    """
    if not shards.is_published(self.path):
      return None
    found = dataset.Dataset(self.path)
    if found.metadata.get("key") == self.key:
      return found
    if overwrite:
      return None
    raise errors.DataError(
        f"{self.path} already holds the dataset {found.name!r}, made from "
        "other inputs; remove the folder or choose another one.")

  def unwritten(self) -> list[str]:
    """Ids of the shards that are not written."""
    return [id_ for i, (key, part) in enumerate(self._parts)
            if not self.writer.has(i, key) for id_ in part]

  def missing(self) -> list[str]:
    """Those of them that are not made."""
    return self.store.missing(self.unwritten())

  def keep(self, id_: str, episode: types.Episode | None,
           note: Any = None) -> None:
    """Puts an episode on disk, or that it is left out; see `pieces`."""
    if episode is None:
      self.store.put(id_, note=note)
      return
    made = record.to_record(episode, self.embodiment, self.cameras, self.codec)
    self.store.put(
        id_, self.writer.serialize(made), record.index_row(made), note)

  def shard(self, i: int) -> None:
    """Writes a shard, unless it is written."""
    key, part = self._parts[i]
    if not self.writer.has(i, key):
      self.writer.write(i, key, filter(None, map(self.store.get, part)))
      self.store.remove(part)

  def publish(self, metadata: Mapping[str, Any] | None) -> dataset.Dataset:
    """Makes the shards a dataset.

    Raises:
      DataError: shards are missing, no episode in any, or clocks differ.
    """
    _check_clocks(self.writer)
    self.writer.publish(record.identity(self.embodiment, self.cameras),
                        dict(metadata or {}) | {"key": self.key})
    return dataset.Dataset(self.path)

  @functools.cached_property
  def _parts(self) -> list[tuple[str, list[str]]]:
    """(key, ids) of each shard."""
    return [(shards.digest_of([self.key, part]), part)
            for part in shards.split_evenly(self.ids, self.num_shards)]


def write(
    path: str | pathlib.Path, name: str,
    episodes: Iterable[types.Episode | str], embodiment: types.Embodiment, *,
    cameras: Sequence[str] | None = None,
    num_shards: int = 1, digest: str = "",
    metadata: Mapping[str, Any] | None = None,
    make: Callable[[str], types.Episode | None] | None = None,
    make_many: Callable[[list[str]], Iterable[types.Episode]] | None = None,
    host: int = 0, hosts: int = 1, barrier: Callable[[], None] | None = None,
    overwrite: bool = False, codec: str = "h264",
) -> dataset.Dataset:
  """Writes a dataset; a killed run goes on where it stopped.

  Shards hold contiguous parts of the list in order, whoever made them. Work is
  dealt out by the hash of the ids, and every finished episode is kept, so that
  any number of hosts goes on with what is missing. Nothing is made again unless
  `digest`, the ids or the feature spec changed.

  Args:
    path: the dataset's folder.
    name: TFDS name, snake_case.
    episodes: episodes, or ids together with `make` or `make_many`.
    embodiment: its layout is stored with the data.
    cameras: cameras to keep; None keeps the embodiment's.
    num_shards: number of files.
    digest: key of everything the episodes depend on besides their ids
      (config, weights); ready episodes are hashed themselves.
    metadata: JSON-able facts of the dataset.
    make: id -> episode, or None to leave it out; called only for the ids of
      unfinished episodes.
    make_many: the same for all of these ids at once, for batched work; yields
      each episode as soon as it is made.
    host, hosts: which of how many processes this is; host 0 publishes.
    barrier: waits for the other hosts; needed if hosts > 1.
    overwrite: replaces a published dataset with another content key.
    codec: of the videos: "h264" is small, "jpeg" fast to read in windows.

  Raises:
    DataError: the folder holds another dataset, or an episode does not fit.
  """
  path = pathlib.Path(path)
  items, many, content = _work(episodes, make, make_many)
  if hosts > 1 and barrier is None:
    raise errors.DataError("Writing with several hosts needs a barrier.")
  plan = Plan(
      path, name, tuple(items), embodiment,
      tuple(embodiment.cameras if cameras is None else cameras), num_shards,
      digest, codec, tuple(content))
  found = plan.finished(overwrite)
  if found:
    return found
  if host == 0:
    shards.unpublish(path)
  if barrier:
    barrier()
  path.mkdir(parents=True, exist_ok=True)
  mine = pieces.deal(plan.missing(), host, hosts)
  if barrier:
    barrier()  # all have seen the same before anything changes
  if mine:
    _make(plan, mine, many)
  if barrier:
    barrier()
  for i in range(host, num_shards, hosts):
    plan.shard(i)
  if barrier:
    barrier()
  if host == 0:
    plan.publish(metadata)
  if barrier:
    barrier()
  return dataset.Dataset(path)


def copy(path: str | pathlib.Path, name: str, source: dataset.Dataset,
         origins: Mapping[str, types.Origin], *, num_shards: int = 1,
         ) -> dataset.Dataset:
  """The same episodes with other origins; videos are not encoded again.

  Args:
    path: the new dataset's folder.
    name: TFDS name, snake_case.
    source: what is copied.
    origins: episode id -> its origin from now on.
    num_shards: number of files.

  Raises:
    DataError: the folder holds another dataset.
  """
  path = pathlib.Path(path)
  spec = record.features(source.embodiment, source.cameras)
  writer = shards.Writer(path, name, spec, num_shards)
  said = {key: dataclasses.asdict(value) for key, value in origins.items()}
  key = shards.digest_of([name, source.digest, said, num_shards])
  if shards.is_published(path):
    found = dataset.Dataset(path)
    if found.metadata.get("key") != key:
      raise errors.DataError(
          f"{path} already holds the dataset {found.name!r}, made from "
          "other inputs; remove the folder or choose another one.")
    return found
  path.mkdir(parents=True, exist_ok=True)

  def changed(i):
    made = record.with_origin(source.record(i), origins[source.ids[i]])
    return writer.serialize(made), record.index_row(made)

  parts = shards.split_evenly(range(len(source)), num_shards)
  for i, part in enumerate(parts):
    writer.write(i, shards.digest_of([key, part]), map(changed, part))
  writer.publish(record.identity(source.embodiment, source.cameras),
                 {"key": key})
  return dataset.Dataset(path)


def _work(episodes, make, make_many):
  """(ids, function from ids to episodes, digest of ready episodes)."""
  items = list(episodes)
  if not items:
    raise errors.DataError("There is no episode to write.")
  if any(isinstance(item, types.Episode) for item in items):
    ready = {item.id: item for item in items}
    content = [_content(item) for item in items]
    return ([item.id for item in items],
            lambda ids: [ready[id_] for id_ in ids], content)
  if make_many is not None:
    return items, make_many, []
  if make is None:
    raise errors.DataError(
        "Writing from episode ids needs `make` or `make_many`."
    )
  return items, lambda ids: (make(id_) for id_ in ids), []


def _content(episode: types.Episode) -> str:
  """SHA-256 of all that an episode holds."""
  digest = hashlib.sha256()
  for field in dataclasses.fields(episode):
    value = getattr(episode, field.name)
    if field.name == "video":
      arrays = [value[camera] for camera in sorted(value)]
      digest.update(json.dumps(sorted(value)).encode())
    elif isinstance(value, np.ndarray):
      arrays = [value]
    else:
      arrays = []
      if isinstance(value, types.Clock | types.Origin):
        value = dataclasses.asdict(value)
      digest.update(json.dumps([field.name, value], sort_keys=True).encode())
    for array in arrays:
      digest.update(f"{field.name}{array.dtype}{array.shape}".encode())
      digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()


def _make(plan, ids, many):
  """Makes episodes; each is on disk before the next is begun."""
  left = dict.fromkeys(ids)
  for episode in many(ids):
    if episode is None:
      continue
    if episode.id not in left:
      raise errors.DataError(
          f"Episode {episode.id!r} was made where one of {ids[:3]}... was "
          "asked for."
      )
    plan.keep(episode.id, episode)
    left[episode.id] = True
  for id_, made in left.items():
    if not made:
      plan.keep(id_, None)  # need not be asked for again


def _check_clocks(writer: shards.Writer) -> None:
  """All episodes of a dataset share one clock."""
  clocks = {
      (row["video_hz"], row["control_hz"])
      for i in range(writer.num_shards)
      for row in (writer.receipt(i) or {"rows": []})["rows"]
  }
  if len(clocks) > 1:
    raise errors.DataError(
        f"The episodes of {writer.path} have different clocks (video Hz, "
        f"control Hz): {sorted(clocks)}; resample them first."
    )
