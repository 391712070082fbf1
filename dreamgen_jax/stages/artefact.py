"""Content-keyed results of stages: what is done, what changed, what goes on.

A step's folder `<workdir>/<stage>/` holds whatever its stage writes plus
  unfinished.json  while the stage works,
  artefact.json    once it is done; written last, atomically.
Both record the key: sha256 over the stage, its resolved config, the digests of
its inputs and the version of its code.
"""

import contextlib
import dataclasses
import datetime
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import sys
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import dreamgen_jax
from dreamgen_jax import errors

DONE = "artefact.json"
WORKING = "unfinished.json"
RUN = "run.json"
LOCKS = ".locks"


@dataclasses.dataclass(frozen=True)
class Artefact:
  """The result of one step of one run.

  Attributes:
    workdir: folder of the whole run.
    stage: the step's name in the config, and its folder's.
    config: the part of the resolved config that this stage's result depends
      on; plain JSON-able values.
    inputs: name -> digest of every artefact or dataset that the stage reads.
    code: version of the code; a new one makes the stage run again.
  """

  workdir: pathlib.Path
  stage: str
  config: Mapping[str, Any]
  inputs: Mapping[str, str] = dataclasses.field(default_factory=dict)
  code: str = dreamgen_jax.__version__

  @functools.cached_property
  def key(self) -> str:
    """Hex digest that names this result; downstream stages take it as input."""
    return hashlib.sha256(canonical(self._content()).encode()).hexdigest()

  @property
  def folder(self) -> pathlib.Path:
    """Where the stage writes."""
    return pathlib.Path(self.workdir) / self.stage

  def record(self) -> dict[str, Any] | None:
    """What the folder's artefact.json, or else unfinished.json, says.

    Raises:
      DataError: the file is there but damaged.
    """
    return read_json(self.folder / DONE) or read_json(self.folder / WORKING)

  def is_done(self) -> bool:
    """Whether the folder holds the finished result of exactly this key."""
    record = read_json(self.folder / DONE)
    return record is not None and record["key"] == self.key

  def changes(self) -> list[str]:
    """Why the folder's present content is not this result.

    Returns:
      Lines "config.train.steps: 10 -> 20"; empty when the folder is new or has
      the same key.
    """
    record = self.record()
    if record is None or record["key"] == self.key:
      return []
    new = _flat(json.loads(canonical(self._content())))
    old = _flat({name: record[name] for name in self._content()})
    return [
        f"{name}: {_show(old, name)} -> {_show(new, name)}"
        for name in sorted(old.keys() | new.keys())
        if name not in old or name not in new or old[name] != new[name]
    ]

  def prepare(self) -> pathlib.Path | None:
    """Makes the folder ready to work in.

    Work of the same key goes on where it is. Anything else that is in the
    folder is moved to `<stage>.old-<key8>`, never deleted.

    Returns:
      Where the folder's former content went, or None if it stayed.
    """
    record = self.record()
    if record is not None and record["key"] == self.key:
      return None
    aside = None
    if self.folder.exists() and any(self.folder.iterdir()):
      aside = _move_aside(self.folder, record)
    self.folder.mkdir(parents=True, exist_ok=True)
    write_json(self.folder / WORKING, {**self._facts(), "created": _now()})
    return aside

  def finish(
      self,
      seconds: float,
      metrics: Mapping[str, Any] | None = None,
      versions: Mapping[str, str] | None = None,
  ) -> dict[str, Any]:
    """Declares the step done; call after every other file is on disk.

    Args:
      seconds: wall time spent.
      metrics: what a later stage or the report wants to know; JSON-able.
      versions: package -> version that made the result.

    Returns:
      The record that was written.
    """
    record = {
        **self._facts(), "created": _now(), "versions": dict(versions or {}),
        "seconds": round(seconds, 3), "metrics": dict(metrics or {}),
    }
    write_json(self.folder / DONE, record)
    (self.folder / WORKING).unlink(missing_ok=True)
    return record

  def _content(self) -> dict[str, Any]:
    return {"stage": self.stage, "config": self.config,
            "inputs": self.inputs, "code": self.code}

  def _facts(self) -> dict[str, Any]:
    return {"key": self.key, **self._content()}


@contextlib.contextmanager
def alone(workdir: pathlib.Path, name: str) -> Iterator[None]:
  """Keeps every other process from running the same stage meanwhile.

  The lock ends with the process, however it ends; on a disk that knows no
  locks there is none.

  Raises:
    ConfigError: another process is at it.
  """
  folder = workdir / LOCKS
  folder.mkdir(exist_ok=True)
  with (folder / name).open("w") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise errors.ConfigError(
          f"Another process is running stage {name!r} in {str(workdir)!r}; "
          "wait until it has ended, or name another workdir.") from error
    except OSError:
      pass
    yield


def claim(workdir: pathlib.Path, config: Mapping[str, Any]) -> dict[str, Any]:
  """Takes a folder for a run and writes run.json into it.

  Args:
    workdir: new, empty, or the folder of an earlier run.
    config: the whole resolved config.

  Returns:
    What run.json now says.

  Raises:
    ConfigError: the folder is a file, cannot be made, or holds files of
      something else.
  """
  workdir = pathlib.Path(workdir)
  try:
    workdir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise errors.ConfigError(
        f"Workdir {str(workdir)!r} cannot be made: {error.strerror}."
    ) from error
  old = read_json(workdir / RUN)
  if old is None or old.get("program") != dreamgen_jax.__name__:
    found = sorted(path.name for path in workdir.iterdir())
    if found:
      shown = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
      raise errors.ConfigError(
          f"Workdir {str(workdir)!r} holds files of something else ({shown}); "
          "name a new or empty folder."
      )
    old = {}
  record = {
      "program": dreamgen_jax.__name__,
      "version": dreamgen_jax.__version__,
      "created": old.get("created", _now()),
      "started": _now(),
      "command": sys.argv,
      "config": config,
  }
  write_json(workdir / RUN, record)
  return record


def digest(path: pathlib.Path) -> str:
  """sha256 of a file, or of a folder's relative names and contents.

  Files named dreamgen_* do not count: reading a dataset leaves them beside it
  (index, statistics), and they follow from the rest. Nor does README.md, a
  model's card.

  Raises:
    DataError: nothing is there.
  """
  path = pathlib.Path(path)
  total = hashlib.sha256()
  if path.is_dir():
    for file in sorted(path.rglob("*")):
      if file.is_file() and not file.name.startswith(
          ("dreamgen_", "README.md")):
        name = file.relative_to(path).as_posix()
        total.update(f"{name}\0{digest(file)}\0".encode())
    return total.hexdigest()
  if not path.is_file():
    raise errors.DataError(f"{path} does not exist.")
  with path.open("rb") as stream:
    return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical(value: Any) -> str:
  """The one JSON text of a value: sorted keys, tuples as lists, no blanks."""
  return json.dumps(
      value, sort_keys=True, separators=(",", ":"), allow_nan=False,
      default=_mapping,
  )


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes a JSON file whole or not at all."""
  # Named apart: several hosts may write the same value.
  temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
  with temporary.open("w") as file:
    json.dump(value, file, indent=2, default=_mapping)
    file.write("\n")
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)


def read_json(path: pathlib.Path) -> dict[str, Any] | None:
  """A JSON file's value, or None when there is no file.

  Raises:
    DataError: the file is damaged.
  """
  try:
    return json.loads(path.read_text())
  except (FileNotFoundError, NotADirectoryError):
    return None
  except ValueError as error:
    raise errors.DataError(
        f"{path} is damaged ({error}); move the folder {path.parent} away to "
        "start it afresh."
    ) from error


def _mapping(value: Any) -> Any:
  if isinstance(value, Mapping):
    return dict(value)
  if hasattr(value, "to_dict"):  # a ConfigDict
    return value.to_dict()
  raise TypeError(f"{value!r} has no JSON form")


def _move_aside(
    folder: pathlib.Path, record: dict[str, Any] | None
) -> pathlib.Path:
  name = f"{folder.name}.old-{record['key'][:8] if record else 'unknown'}"
  aside, count = folder.with_name(name), 1
  while aside.exists():
    count += 1
    aside = folder.with_name(f"{name}-{count}")
  return folder.rename(aside)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
  if not isinstance(value, dict) or not value:
    return {prefix: value}
  flat: dict[str, Any] = {}
  for name, inner in value.items():
    flat |= _flat(inner, f"{prefix}.{name}" if prefix else name)
  return flat


def _show(flat: Mapping[str, Any], name: str) -> str:
  if name not in flat:
    return "(none)"
  text = canonical(flat[name])
  if name.startswith("inputs."):
    return text.strip('"')[:8]
  return text if len(text) <= 60 else text[:57] + "..."


def _now() -> str:
  return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
