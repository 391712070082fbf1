"""Datasets by name, by a file of one's own, or as folders of this package."""

import importlib.util
import json
import os
import pathlib
from typing import Any

from dreamgen_jax import errors, registry
from dreamgen_jax.data import dataset, layout, source

POINTER = "source.json"  # in a folder that stands for a dataset elsewhere
_KIND = "data.datasets"


def names() -> list[str]:
  """Of all datasets that are registered."""
  return sorted(_table())


def find(name: str) -> layout.Layout | layout.Native:
  """The dataset of a name, or of a Python file that exports DATASET.

  Raises:
    ConfigError: there is none; lists those that there are.
  """
  if name.endswith(".py"):
    return _from_file(pathlib.Path(name))
  table = _table()
  if name not in table:
    raise errors.ConfigError(
        f"Unknown dataset {name!r}; have: {', '.join(sorted(table))}, or a "
        "file such as my_dataset.py that exports DATASET."
        + registry.nearest(name, list(table)))
  return table[name]


def foreign(name: str) -> layout.Layout:
  """As `find`, of datasets that others recorded.

  Raises:
    ConfigError: there is none, or it is one of this package.
  """
  found = find(name)
  if isinstance(found, layout.Native):
    raise errors.ConfigError(
        f"{name!r} is {found.about}, of this package: name its folder as an "
        "input instead.")
  return found


def open(path: str | os.PathLike, split: str = "train"
         ) -> dataset.Dataset | source.Source:
  """A dataset of this package, or the one that a folder's pointer names.

  Raises:
    DataError: there is neither, or it is damaged.
  """
  path = pathlib.Path(path)
  if not (path / POINTER).exists():
    return dataset.Dataset(path, split)
  try:
    said = json.loads((path / POINTER).read_text())
    return source.Source(
        layout.Layout.from_json(said["layout"]), said["path"], index=path,
        split=said["split"], on_problem=said["on_problem"], keep=said["keep"])
  except (ValueError, KeyError, TypeError) as error:
    if isinstance(error, errors.UserError):
      raise
    raise errors.DataError(
        f"{path / POINTER} is damaged; run its stage again.") from error


def point(folder: pathlib.Path, given: layout.Layout, path: str,
          **options: Any) -> source.Source:
  """Opens a dataset and makes `folder` stand for it.

  Args:
    folder: keeps the index and the pointer.
    given: how the dataset is read.
    path: its folder.
    **options: split, on_problem, keep; see `source.Source`.
  """
  found = source.Source(given, path, index=folder, **options)
  options.pop("progress", None)
  folder.mkdir(parents=True, exist_ok=True)
  partial = folder / (POINTER + ".partial")
  partial.write_text(json.dumps({
      "layout": given.to_json(), "path": found.path,
      **options, "keep": list(options["keep"])}, indent=2))
  os.replace(partial, folder / POINTER)
  return found


def _table() -> dict[str, layout.Layout | layout.Native]:
  found: dict[str, Any] = {}
  for name in registry.names(_KIND):
    module = registry.find(_KIND, name)
    found |= getattr(module, "DATASETS", None) or {name: module.DATASET}
  return found


def _from_file(path: pathlib.Path) -> layout.Layout | layout.Native:
  spec = importlib.util.spec_from_file_location(f"dataset_{path.stem}", path)
  if not path.is_file() or spec is None or spec.loader is None:
    raise errors.ConfigError(f"There is no file {path}.")
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
  except errors.UserError:
    raise
  except (Exception, SystemExit) as error:
    raise errors.ConfigError(
        f"{path} cannot be read: {type(error).__name__}: {error}.") from error
  found = getattr(module, "DATASET", None)
  if not isinstance(found, layout.Layout | layout.Native):
    raise errors.ConfigError(
        f"{path} exports no DATASET = layout.Layout(...).")
  return found
