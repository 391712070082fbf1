"""What a part's config.json says, against what a preset says."""

import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from dreamgen_jax import errors, registry

# What is a checkpoint's own, not its size -> the autoencoder's config field.
STATISTICS = {"latents_mean": "latents_mean", "latents_std": "latents_std",
              "scaling_factor": "scale"}
_CLASSES = ("_class_name", "architectures")


def read(path: pathlib.Path, wanted: Mapping[str, Any],
         what: str) -> dict[str, Any]:
  """Reads a config.json and compares it.

  Args:
    path: of the file.
    wanted: what the preset says, in the same words; what either leaves out is
      not compared.
    what: the part is, for messages.

  Returns:
    The file's facts, with the preset's where it has none.

  Raises:
    CheckpointError: damaged, or of another class or size.
  """
  try:
    found = dict(json.loads(path.read_text()))
  except (TypeError, ValueError) as error:
    raise errors.CheckpointError(f"{path} is damaged: {error}.") from error
  said, want = _kind(found), _kind(wanted)
  if said and want and said != want:
    near = [name for name in registry.names("world_models")
            if said.lower().startswith(name)]
    family = f", family {near[0]}" if near else ""
    raise errors.CheckpointError(
        f"{path} is of a {_title(found)}{family}; {what} is a "
        f"{_title(wanted)}.")
  for key, value, said in _differences(wanted, found):
    raise errors.CheckpointError(
        f"{path} says {key} = {said!r}; the preset has {value!r}. "
        "Choose the preset that this checkpoint is of.")
  return dict(wanted) | found


def _differences(wanted: Mapping[str, Any], found: Mapping[str, Any]
                 ) -> Iterator[tuple[str, Any, Any]]:
  """(key, wanted, found) of all that is said otherwise."""
  for key, value in wanted.items():
    said = found.get(key, value)
    if isinstance(value, Mapping) and isinstance(said, Mapping):
      for inner, *both in _differences(value, said):
        yield f"{key}.{inner}", *both
    elif said != value and key not in (*_CLASSES, *STATISTICS):
      yield key, value, said


def _kind(facts: Mapping[str, Any]) -> str | None:
  """What is compared: transformers' classes by the word they begin with."""
  name = _title(facts)
  if "_class_name" in facts or not name:
    return name
  return re.match(r"[A-Z0-9]+(?=[A-Z][a-z])|[A-Z][a-z]*|", name)[0]


def _title(facts: Mapping[str, Any]) -> str | None:
  """The class that a config.json is of."""
  return facts.get("_class_name") or (facts.get("architectures") or [None])[0]
