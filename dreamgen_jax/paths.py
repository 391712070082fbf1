"""Nested dicts as flat ones, by "/"-joined path: our naming of parameters."""

from collections.abc import Mapping
from typing import Any


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
  """{"a": {"b": x}} -> {"a/b": x}; empty dicts vanish."""
  flat = {}
  for key, value in tree.items():
    if isinstance(value, Mapping):
      for rest, leaf in flatten(value).items():
        flat[f"{key}/{rest}"] = leaf
    else:
      flat[key] = value
  return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
  """{"a/b": x} -> {"a": {"b": x}}."""
  tree: dict[str, Any] = {}
  for path, leaf in flat.items():
    *parents, last = path.split("/")
    node = tree
    for key in parents:
      node = node.setdefault(key, {})
    node[last] = leaf
  return tree
