"""The folder is the registry: a module's name is the thing's name."""

import difflib
import importlib
import pathlib
import types as python_types

from dreamgen_jax import errors


def names(kind: str) -> list[str]:
  """Names of everything in the folder `dreamgen_jax/<kind>`."""
  folder = pathlib.Path(__file__).parent.joinpath(*kind.split("."))
  return sorted(
      path.stem
      for path in folder.iterdir()
      if not path.stem.startswith("_")
      and (path.suffix == ".py" or (path / "__init__.py").exists())
  )


def nearest(name: str, known: list[str]) -> str:
  """A trailing sentence that suggests the nearest known name, or nothing."""
  close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
  return f" Did you mean {close[0]!r}?" if close else ""


def find(kind: str, name: str) -> python_types.ModuleType:
  """Imports `dreamgen_jax.<kind>.<name>`.

  Raises:
    ConfigError: no such module; the message lists what there is.
  """
  known = names(kind)
  if name not in known:
    what = kind.rsplit(".", 1)[-1].replace("_", " ").removesuffix("s")
    raise errors.ConfigError(
        f"Unknown {what} {name!r}; have: {', '.join(known)}."
        + nearest(name, known)
    )
  return importlib.import_module(f"dreamgen_jax.{kind}.{name}")
