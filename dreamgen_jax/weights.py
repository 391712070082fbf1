"""Released tensor names to our parameter paths, and back.

A table is a list of `Rule` and `Ignore`. A rule pairs two templates:

    Rule("blocks.{i}.attn1.to_{p:q|k|v}.weight", "blocks/self_attn/{p}/kernel",
         linear)

`{x}` stands for one part of a name, `{x:a|b}` for these; what the name has and
the path lacks (here `i`) is a layer's index: the tensor is slice `i` of a
parameter that stacks the layers along its first axis. A rule whose path is not
in the model at hand does not apply, so one table serves all variants.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dreamgen_jax import errors, paths


@dataclasses.dataclass(frozen=True)
class Transform:
  """A tensor's layout, both ways: `load` to ours, `export` back."""

  name: str
  load: Callable[[np.ndarray], np.ndarray]
  export: Callable[[np.ndarray], np.ndarray]


def permute(name: str, axes: tuple[int, ...]) -> Transform:
  """Reorders the axes."""
  back = tuple(int(axis) for axis in np.argsort(axes))
  return Transform(name, lambda x: x.transpose(axes),
                   lambda x: x.transpose(back))


identity = Transform("identity", lambda x: x, lambda x: x)
linear = permute("linear (out, in) -> (in, out)", (1, 0))
conv1d = permute("conv (out, in, t) -> (t, in, out)", (2, 1, 0))
conv2d = permute("conv OIHW -> HWIO", (2, 3, 1, 0))
conv3d = permute("conv OIDHW -> DHWIO", (2, 3, 4, 1, 0))


def patch(*sizes: int) -> Transform:
  """A convolution over disjoint patches to a linear kernel.

  (out, in, *sizes) -> (prod(sizes) * in, out): channels last within a patch.
  """
  rank = len(sizes)
  to = permute("", (*range(2, 2 + rank), 1, 0))

  def load(x):
    if x.shape[2:] != sizes:
      raise ValueError("patch size")
    return to.load(x).reshape(-1, x.shape[0])

  return Transform(f"patch {sizes}", load,
                   lambda x: to.export(x.reshape(*sizes, -1, x.shape[-1])))


def reshape(inner: Sequence[int], outer: Sequence[int]) -> Transform:
  """Released shape `outer` to our shape `inner`; each may have one -1."""
  return Transform(f"reshape {tuple(outer)} -> {tuple(inner)}",
                   lambda x: x.reshape(inner), lambda x: x.reshape(outer))


def squeeze(axis: int = 0) -> Transform:
  """Drops an axis of length 1."""
  return Transform(f"squeeze {axis}", lambda x: x.squeeze(axis),
                   lambda x: np.expand_dims(x, axis))


@dataclasses.dataclass(frozen=True)
class Rule:
  """One line of a table; see the file's docstring.

  A `spare` name is used only when no other name fills the same place (tied
  tensors that a file may hold twice); it is never exported.
  """

  name: str
  path: str
  transform: Transform = identity
  spare: bool = False


@dataclasses.dataclass(frozen=True)
class Ignore:
  """Released names (a regex for the whole name) left out, and why."""

  name: str
  reason: str


Table = Sequence[Rule | Ignore]


def dense(name: str, path: str, bias: bool = True) -> list[Rule]:
  """Rules of a linear layer."""
  rules = [Rule(f"{name}.weight", f"{path}/kernel", linear)]
  return rules + [Rule(f"{name}.bias", f"{path}/bias")] * bias


def norm(name: str, path: str, bias: bool = True) -> list[Rule]:
  """Rules of a normalisation with learned scale (and bias)."""
  rules = [Rule(f"{name}.weight", f"{path}/scale")]
  return rules + [Rule(f"{name}.bias", f"{path}/bias")] * bias


def conv(name: str, path: str, layout: Transform = conv3d,
         bias: bool = True) -> list[Rule]:
  """Rules of a convolution."""
  rules = [Rule(f"{name}.weight", f"{path}/kernel", layout)]
  return rules + [Rule(f"{name}.bias", f"{path}/bias")] * bias


@dataclasses.dataclass(frozen=True)
class _Compiled:
  """A rule's templates as patterns and format strings, and its layer key."""

  name: re.Pattern
  path: re.Pattern
  name_form: str
  path_form: str
  key: str | None


@functools.cache
def _compile(name: str, path: str) -> _Compiled:
  allowed = dict(re.findall(r"\{(\w+):([^{}]+)\}", name + path))

  def compile_one(template):
    pattern, form, seen = "", "", set()
    for part in re.split(r"(\{[^{}]+\})", template):
      if not part.startswith("{"):
        pattern += re.escape(part)
        form += part
        continue
      key = part[1:-1].partition(":")[0]
      pattern += (f"(?P={key})" if key in seen
                  else f"(?P<{key}>{allowed.get(key, '[^./]+')})")
      form += f"{{{key}}}"
      seen.add(key)
    return re.compile(pattern), form, seen

  name_pattern, name_form, name_keys = compile_one(name)
  path_pattern, path_form, path_keys = compile_one(path)
  only = name_keys - path_keys
  assert len(only) <= 1 and not path_keys - name_keys, (name, path)
  return _Compiled(name_pattern, path_pattern, name_form, path_form,
                   next(iter(only), None))


def locate(name: str, table: Table) -> list[tuple[Rule, str, int | None]]:
  """Every (rule, our path, layer index) that a released name may mean."""
  found = []
  for rule in table:
    if isinstance(rule, Rule):
      compiled = _compile(rule.name, rule.path)
      match, key = compiled.name.fullmatch(name), compiled.key
      if match and (key is None or match[key].isdecimal()):
        path = compiled.path_form.format(**match.groupdict())
        found.append((rule, path, int(match[key]) if key else None))
  return found


def choose(tensors: Mapping[str, Any], tables: Mapping[str, Table]) -> str:
  """Name of the table that knows most of these released names.

  Raises:
    CheckpointError: none knows any.
  """
  counts = {
      key: sum(bool(locate(name, table)) for name in tensors)
      for key, table in tables.items()
  }
  best = max(counts, key=lambda key: counts[key])
  if not counts[best]:
    raise errors.CheckpointError(
        f"None of {len(tensors)} tensors (first: {min(tensors, default='')!r})"
        f" is known to the tables {', '.join(tables)}.")
  return best


def _report(what: str, lists: Mapping[str, Sequence[str]]) -> None:
  """Raises one error with every list that is not empty."""
  if not any(lists.values()):
    return
  parts = []
  for label, names in lists.items():
    if names:
      more = f" and {len(names) - 8} more" if len(names) > 8 else ""
      parts.append(f"{len(names)} {label}: {', '.join(names[:8])}{more}")
  raise errors.CheckpointError(f"{what}: {'; '.join(parts)}.")


def _slot(path: str, index: int | None) -> str:
  return path if index is None else f"{path}[{index}]"


def _fits(rule: Rule, tensor: Any, shape: tuple[int, ...]) -> bool:
  stand_in = np.broadcast_to(np.int8(0), tensor.shape)  # no bytes are read
  try:
    return rule.transform.load(stand_in).shape == shape
  except ValueError:
    return False


def load(tensors: Mapping[str, Any], table: Table, target: Any) -> Any:
  """Released tensors to a tree of parameters.

  Args:
    tensors: released name -> array; `safetensors.read` gives lazy ones, of
      which one at a time is read.
    table: rules.
    target: nested dicts of anything with `shape` and `dtype`.

  Returns:
    Nested dicts of numpy arrays with the target's shapes and dtypes.

  Raises:
    CheckpointError: names without a place, places without a name, names or
      places matched twice, wrong shapes; one error lists them all.
  """
  flat = paths.flatten(target)
  unmatched, double, wrong = [], [], []
  filled: dict[tuple[str, int | None], tuple[str, Rule]] = {}
  for name in tensors:
    places = [place for place in locate(name, table) if place[1] in flat]
    if not places:
      if not any(isinstance(rule, Ignore) and re.fullmatch(rule.name, name)
                 for rule in table):
        unmatched.append(name)
      continue
    if len(places) > 1:
      double.append(f"{name} -> {' and '.join(p for _, p, _ in places)}")
      continue
    rule, path, index = places[0]
    shape = flat[path].shape
    if index is not None:
      if index >= shape[0]:
        wrong.append(f"{name} (layer {index} of {shape[0]})")
        continue
      shape = shape[1:]
    if not _fits(rule, tensors[name], shape):
      wrong.append(f"{name} {tuple(tensors[name].shape)} as "
                   f"{rule.transform.name} for {path} {tuple(shape)}")
    other = filled.get((path, index))
    if other and not rule.spare and not other[1].spare:
      double.append(f"{_slot(path, index)} <- {other[0]} and {name}")
    if not other or other[1].spare:
      filled[path, index] = name, rule
  unfilled = []
  for path, leaf in flat.items():
    if (path, None) in filled:
      continue
    indices = [i for p, i in filled if p == path]
    if not indices:
      unfilled.append(path)
      continue
    unfilled += [_slot(path, i) for i in range(leaf.shape[0])
                 if i not in indices]
  _report("The weights do not fit the model", {
      "tensors without a place": unmatched,
      "parameters without a tensor": unfilled,
      "matched twice": double,
      "of wrong shape": wrong,
  })
  out: dict[str, np.ndarray] = {}
  for (path, index), (name, rule) in filled.items():
    if path not in out:
      out[path] = np.empty(flat[path].shape, flat[path].dtype)
    where = ... if index is None else index
    out[path][where] = rule.transform.load(np.asarray(tensors[name]))
  return paths.unflatten({path: out[path] for path in flat})


def export(params: Any, table: Table) -> dict[str, np.ndarray]:
  """Parameters (or anything of their shapes) under released names.

  Returns:
    Released name -> array in released layout, in the parameter's dtype; views
    where the layout allows.

  Raises:
    CheckpointError: parameters that no rule, or more than one, names.
  """
  unmatched, double = [], []
  out: dict[str, np.ndarray] = {}
  for path, leaf in paths.flatten(params).items():
    found = []
    for rule in table:
      if isinstance(rule, Rule) and not rule.spare:
        match = _compile(rule.name, rule.path).path.fullmatch(path)
        if match:
          found.append((rule, match.groupdict()))
    if not found:
      unmatched.append(path)
      continue
    if len(found) > 1:
      double.append(path)
      continue
    (rule, parts), array = found[0], np.asarray(leaf)
    compiled = _compile(rule.name, rule.path)
    key, form = compiled.key, compiled.name_form
    if key is None:
      out[form.format(**parts)] = rule.transform.export(array)
    else:
      for i, layer in enumerate(array):
        name = form.format(**parts, **{key: i})
        out[name] = rule.transform.export(layer)
  _report("The parameters cannot be exported by this table", {
      "parameters without a rule": unmatched, "matched twice": double})
  return out
