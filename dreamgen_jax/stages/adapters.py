"""Adapters that a config stacks onto a world model: which, and how strongly.

A model's section, or a stage that dreams, may have

    adapters=(dict(path="FILE", weight=1.0), ...)

Each is a file in any dialect of `lora_files`, or the folder of a finished stage
`finetune`. Their order does not matter.
"""

import dataclasses
import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from dreamgen_jax import errors, registry
from dreamgen_jax.stages import artefact


@dataclasses.dataclass(frozen=True)
class Adapter:
  """One of them.

  Attributes:
    path: file, or folder of a stage.
    weight: factor of its change to the model.
    expert: the transformer that it is for, where the file does not say.
  """

  path: str
  weight: float = 1.0
  expert: str | None = None

  @property
  def stage(self) -> pathlib.Path | None:
    """The checkpoint within, if the path is a stage's folder."""
    inside = pathlib.Path(self.path) / "checkpoint"
    return inside if inside.is_dir() else None

  @property
  def digest(self) -> str:
    """Of its content, and the weight; goes into provenance."""
    content = artefact.digest(self.stage or pathlib.Path(self.path))
    mark = f"{content[:16]}*{float(self.weight):g}"
    return mark + (f"@{self.expert}" if self.expert else "")


def parse(items: Iterable[Mapping[str, Any]]) -> list[Adapter]:
  """The adapters that a config names, in the order of their digests.

  Raises:
    ConfigError: a field is missing, unknown or of the wrong kind.
    DataError: there is no such file.
  """
  fields = [field.name for field in dataclasses.fields(Adapter)]
  found = []
  for item in items:
    item = item.to_dict() if hasattr(item, "to_dict") else item
    if not isinstance(item, Mapping) or "path" not in item:
      raise errors.ConfigError(
          f"An adapter is dict(path=, weight=1.0), not {item!r}.")
    for name in item:
      if name not in fields:
        raise errors.ConfigError(
            f"An adapter has no {name!r}; it has {', '.join(fields)}."
            + registry.nearest(name, fields))
    weight = item.get("weight", 1.0)
    if not isinstance(weight, int | float) or not math.isfinite(weight):
      raise errors.ConfigError(
          f"The weight of an adapter is a finite number, not {weight!r}.")
    found.append(Adapter(**item))
  return sorted(found, key=lambda adapter: adapter.digest)


def digests(items: Iterable[Mapping[str, Any]]) -> list[str]:
  """What a result depends on, whatever the files' names and order."""
  return [adapter.digest for adapter in parse(items)]
