"""From a config's `model` section to the object it names."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dreamgen_jax import errors, interfaces, registry

KINDS = ("world_models", "labelers", "policies")
# How a model runs rather than what it is: all values count as these.
RUNNING = {"remat": "none"}


def build(kind: str, spec: Mapping[str, Any], **fixed: Any) -> Any:
  """The model that `dict(name=, preset=, kw={})` names.

  Args:
    kind: folder of the package: world_models, labelers or policies.
    spec: the config's section.
    **fixed: config fields that the stage decides, such as action_dim.

  Raises:
    ConfigError: unknown name, preset or field; lists what there is.
  """
  module = registry.find(kind, spec["name"])
  if spec["preset"] not in module.PRESETS:
    raise errors.ConfigError(
        f"{spec['name']} has no preset {spec['preset']!r}; have: "
        f"{', '.join(module.PRESETS)}."
        + registry.nearest(spec["preset"], list(module.PRESETS)))
  changes = dict(spec.get("kw", {})) | fixed
  return module.Model(
      changed(module.PRESETS[spec["preset"]], changes, spec["name"]))


def changed(config: Any, changes: Mapping[str, Any], name: str) -> Any:
  """The dataclass with some fields, and some fields of its parts, replaced.

  Raises:
    ConfigError: unknown field; lists what `name` has.
  """
  fields = [field.name for field in dataclasses.fields(config)]
  values = {}
  for key, value in changes.items():
    if key not in fields:
      raise errors.ConfigError(
          f"{name} has no option {key!r}; have: {', '.join(fields)}."
          + registry.nearest(key, fields))
    part = getattr(config, key)
    values[key] = (changed(part, value, f"{name}.{key}")
                   if dataclasses.is_dataclass(part)
                   and not dataclasses.is_dataclass(value) else
                   # JSON, in which configs are kept, knows no tuples.
                   tuple(value) if isinstance(value, list) else value)
  return dataclasses.replace(config, **values)


def replaced(model: Any, changes: Mapping[str, Any], name: str) -> Any:
  """The model with some fields of its config replaced, see `changed`."""
  if "config" in (field.name for field in dataclasses.fields(model)):
    return dataclasses.replace(
        model, config=changed(model.config, changes, name))
  return dataclasses.replace(  # one around another
      model, model=replaced(model.model, changes, name))


def resolve(spec: Mapping[str, Any]) -> dict[str, Any]:
  """Every size of the model that a section names, whatever kind it is of."""
  for kind in KINDS:
    if spec["name"] in registry.names(kind):
      return _sizes(build(kind, spec).config)
  known = [name for kind in KINDS for name in registry.names(kind)]
  raise errors.ConfigError(
      f"Unknown model {spec['name']!r}; have: {', '.join(known)}."
      + registry.nearest(spec["name"], known))


def _sizes(config: Any) -> dict[str, Any]:
  """Field -> value, parts in turn; see `interfaces.LATER`."""
  values = {}
  for field in dataclasses.fields(config):
    value = RUNNING.get(field.name, getattr(config, field.name))
    if field.metadata != interfaces.LATER or value != field.default:
      values[field.name] = (
          _sizes(value) if dataclasses.is_dataclass(value) else value)
  return values


def rules(kind: str, spec: Mapping[str, Any]) -> list[tuple[str, tuple]]:
  """The sharding rules of the model that the section names."""
  return registry.find(kind, spec["name"]).RULES
