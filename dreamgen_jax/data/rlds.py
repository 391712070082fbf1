"""Episodes on disk: what the rest of the house imports to read and write.

The spec is in `record`, the reader in `dataset`, resumable files in `shards`.
The stock `tfds.builder_from_directory(path).as_data_source()` opens all that
is written here.
"""

import dataclasses
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
  if not 1 <= num_shards <= len(items):
    raise errors.DataError(
        f"num_shards must be between 1 and the number of episodes "
        f"({len(items)}), not {num_shards}."
    )
  cameras = list(embodiment.cameras) if cameras is None else list(cameras)
  spec = record.features(embodiment, cameras)
  writer = shards.Writer(path, name, spec, num_shards)
  key = shards.digest_of([digest, name, items, content, num_shards,
                          spec.to_json(), dataclasses.asdict(embodiment),
                          *([] if codec == "h264" else [codec])])
  identity = record.identity(embodiment, cameras)
  if shards.is_published(path):
    found = dataset.Dataset(path)
    if found.metadata.get("key") == key:
      return found
    if not overwrite:
      raise errors.DataError(
          f"{path} already holds the dataset {found.name!r}, made from "
          "other inputs; remove the folder or choose another one."
      )
    if host == 0:
      shards.unpublish(path)
  if barrier:
    barrier()
  path.mkdir(parents=True, exist_ok=True)
  parts = [(shards.digest_of([key, part]), part)
           for part in shards.split_evenly(items, num_shards)]
  store, unfinished = writer.store(key), [
      id_ for i, (part_key, part) in enumerate(parts)
      if not writer.has(i, part_key) for id_ in part]
  mine = pieces.deal(store.missing(unfinished), host, hosts)
  if barrier:
    barrier()  # all have seen the same before anything changes
  if mine:
    _make(store, mine, many, lambda episode: record.to_record(
        episode, embodiment, cameras, codec), writer)
  if barrier:
    barrier()
  for i, (part_key, part) in enumerate(parts):
    if i % hosts == host and not writer.has(i, part_key):
      writer.write(i, part_key, filter(None, map(store.get, part)))
      store.remove(part)
  if barrier:
    barrier()
  if host == 0:
    _check_clocks(writer)
    writer.publish(identity, dict(metadata or {}) | {"key": key})
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


def _make(store, ids, many, to_record, writer):
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
    made = to_record(episode)
    store.put(episode.id, writer.serialize(made), record.index_row(made))
    left[episode.id] = True
  for id_, made in left.items():
    if not made:
      store.put(id_)  # was left out, and need not be asked for again


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
