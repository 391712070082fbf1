"""The useful operations of a step: products that its mathematics needs.

Counted in the traced program, in which nothing is padded, computed again or
split: 2 x multiplications of every matrix product and convolution, loops by
their trips. Of a choice by platform the cheapest counts, of any other choice
the dearest. (Attention's blocks fill up: 0.05 % too much at 32,760 tokens.)
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax


def count(function: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
  """Of one call, over all devices."""
  return _of(jax.make_jaxpr(function)(*arguments).jaxpr)


def plain(model: Any) -> Any:
  """A model (frozen dataclasses) whose backward pass computes nothing again."""
  if not dataclasses.is_dataclass(model):
    return model
  fields = {field.name: getattr(model, field.name)
            for field in dataclasses.fields(model) if field.init}
  changes = {name: "none" if name == "remat" else plain(value)
             for name, value in fields.items()}
  changes = {name: value for name, value in changes.items()
             if value is not fields[name]}
  return dataclasses.replace(model, **changes) if changes else model


def _of(jaxpr: Any) -> float:
  return sum(_equation(each) for each in jaxpr.eqns)


def _equation(each: Any) -> float:
  name, params = each.primitive.name, each.params
  if name == "dot_general":
    (of_left, _), _ = params["dimension_numbers"]
    inner = math.prod(each.invars[0].aval.shape[i] for i in of_left)
    return 2.0 * math.prod(each.outvars[0].aval.shape) * inner
  if name == "conv_general_dilated":
    kernel = each.invars[1].aval.shape
    outputs = kernel[params["dimension_numbers"].rhs_spec[0]]
    return (2.0 * math.prod(each.outvars[0].aval.shape)
            * math.prod(kernel) / outputs)
  inside = [_of(part) for part in _inside(params)]
  if name == "scan":
    return params["length"] * sum(inside)
  if name == "cond":
    return (min if params.get("branches_platforms") else max)(inside)
  if name == "pallas_call":
    steps = math.prod(params["grid_mapping"].grid) * sum(inside)
    # Of its five products one computes the logits again.
    return steps * 4 / 5 if params["name"] == "flash_backward" else steps
  return sum(inside)


def _inside(params: dict[str, Any]) -> list[Any]:
  found = []
  for value in params.values():
    for part in value if isinstance(value, tuple | list) else (value,):
      jaxpr = getattr(part, "jaxpr", part)
      if hasattr(jaxpr, "eqns"):
        found.append(jaxpr)
  return found
