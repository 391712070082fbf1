"""Released tensor names to our parameter paths, and back.

A table is a list of `Rule` and `Ignore`. A rule pairs two templates:

    Rule("blocks.{i}.attn1.to_{p:q|k|v}.weight", "blocks/self_attn/{p}/kernel",
         linear)

`{x}` stands for one part of a name, `{x:a|b}` for these; what the name has and
the path lacks (here `i`) is a layer's index: the tensor is slice `i` of a
parameter that stacks the layers along its first axis. A rule whose path is not
in the model at hand does not apply, so one table serves all variants.

A tensor that holds several parameters one behind the other has a rule for each:

    Rule("{i}.qkv.weight", "blocks/k/kernel", linear, pieces=(1,), of=3)

Nothing is read before it is used: `match` gives `lazy.Parameter`s, which
`load` reads whole, and `export` turns into the tensors of another table.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dreamgen_jax import errors, lazy, paths


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
  tensors that a file may hold twice); it is never exported. With `of`, the
  parameter is these `pieces`, in this order, of the tensor's first axis cut
  into that many equal parts.
  """

  name: str
  path: str
  transform: Transform = identity
  spare: bool = False
  pieces: tuple[int, ...] = (0,)
  of: int = 1

  def read(self, tensor: np.ndarray) -> np.ndarray:
    """A released tensor in our layout; a view of it where that can be."""
    if self.of > 1:
      parts = tensor.reshape(self.of, -1, *tensor.shape[1:])
      first, count = self.pieces[0], len(self.pieces)
      if self.pieces == tuple(range(first, first + count)):
        parts = parts[first:first + count]  # no copy
      else:
        parts = parts[list(self.pieces)]
      tensor = parts.reshape(-1, *tensor.shape[1:])
    return self.transform.load(tensor)


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
  counts = {key: sum(bool(locate(name, table)) for name in tensors)
            for key, table in tables.items()}
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


def _shape(function: Callable, shape: tuple[int, ...]) -> tuple | None:
  """The shape that a layout gives, without reading; None if it cannot be."""
  try:
    return function(np.broadcast_to(np.int8(0), shape)).shape
  except ValueError:
    return None


def _places(tensors, table, flat):
  """Yields (name, its places in the model, what is wrong with them)."""
  ignores = [rule.name for rule in table if isinstance(rule, Ignore)]
  for name in tensors:
    places = [place for place in locate(name, table) if place[1] in flat]
    ignored = any(re.fullmatch(pattern, name) for pattern in ignores)
    cuts = {rule.of for rule, *_ in places}
    pieces = sorted(piece for rule, *_ in places for piece in rule.pieces)
    if not places:
      yield name, [], "" if ignored else "unmatched"
    elif len(cuts) > 1 or pieces != list(range(max(cuts))):
      yield name, [], "double" if len(set(pieces)) < len(pieces) else "part"
    else:
      yield name, places, ""


def match(tensors: Mapping[str, Any], table: Table, target: Any) -> Any:
  """Finds the place of every tensor; reads none.

  Args:
    tensors: released name -> array; `safetensors.read` gives lazy ones.
    table: rules.
    target: nested dicts of anything with `shape` and `dtype`.

  Returns:
    Nested dicts like the target's, of `lazy.Parameter`.

  Raises:
    CheckpointError: names without a place, places without a name, names or
      places matched twice, wrong shapes; one error lists them all.
  """
  flat = paths.flatten(target)
  lists: dict[str, list[str]] = {"unmatched": [], "double": [], "part": []}
  wrong = []
  filled: dict[str, dict[int | None, tuple[str, Rule]]] = {}
  for name, places, fault in _places(tensors, table, flat):
    if fault == "double":
      twice = [place[1] for place in locate(name, table) if place[1] in flat]
      lists[fault].append(f"{name} -> {' and '.join(twice)}")
    elif fault:
      lists[fault].append(name)
    for rule, path, index in places:
      shape = tuple(flat[path].shape)
      if index is not None:
        if index >= shape[0]:
          wrong.append(f"{name} (layer {index} of {shape[0]})")
          continue
        shape = shape[1:]
      if _shape(rule.read, tensors[name].shape) != shape:
        wrong.append(f"{name} {tuple(tensors[name].shape)} as "
                     f"{rule.transform.name} for {path} {shape}")
      slots = filled.setdefault(path, {})
      other = slots.get(index)
      if other and not rule.spare and not other[1].spare:
        lists["double"].append(
            f"{_slot(path, index)} <- {other[0]} and {name}")
      if not other or other[1].spare:
        slots[index] = name, rule
  unfilled = []
  for path, leaf in flat.items():
    slots = filled.get(path, {})
    if not slots:
      unfilled.append(path)
    elif None not in slots:
      unfilled += [_slot(path, i) for i in range(leaf.shape[0])
                   if i not in slots]
  _report("The weights do not fit the model", {
      "tensors without a place": lists["unmatched"],
      "parameters without a tensor": unfilled,
      "matched twice": lists["double"],
      "of which a piece has no place": lists["part"],
      "of wrong shape": wrong,
  })
  return paths.unflatten({
      path: lazy.Parameter(tuple(leaf.shape), np.dtype(leaf.dtype), {
          index: (rule, tensors[name])
          for index, (name, rule) in filled[path].items()})
      for path, leaf in flat.items()})


def load(tensors: Mapping[str, Any], table: Table, target: Any) -> Any:
  """Released tensors to a tree of parameters in memory.

  Args:
    tensors, table, target: see `match`.

  Returns:
    Nested dicts of numpy arrays with the target's shapes and dtypes.

  Raises:
    CheckpointError: see `match`.
  """
  found = paths.flatten(match(tensors, table, target))
  return paths.unflatten({path: leaf.read() for path, leaf in found.items()})


def export(params: Any, table: Table) -> dict[str, Any]:
  """Parameters (or anything of their shapes) under released names.

  Returns:
    Released name -> array in released layout, in the parameter's dtype: views
    of numpy arrays where the layout allows, `lazy.Array` of all else. A
    `lazy.Parameter` keeps the dtype of its file.

  Raises:
    CheckpointError: parameters that no rule, or more than one, names, or
      names of which a piece is missing.
  """
  unmatched, double = [], []
  slots: dict[str, list[tuple[Rule, Any, int | None]]] = {}
  for path, leaf in paths.flatten(params).items():
    found = []
    for rule in table:
      if isinstance(rule, Rule) and not rule.spare:
        place = _compile(rule.name, rule.path).path.fullmatch(path)
        if place:
          found.append((rule, place.groupdict()))
    if len(found) != 1:
      (double if found else unmatched).append(path)
      continue
    rule, parts = found[0]
    compiled = _compile(rule.name, rule.path)
    key, form = compiled.key, compiled.name_form
    for layer in [None] if key is None else range(leaf.shape[0]):
      name = form.format(**parts, **({key: layer} if key else {}))
      slots.setdefault(name, []).append((rule, leaf, layer))
  partial = [
      name for name, places in slots.items()
      if sorted(piece for rule, *_ in places for piece in rule.pieces)
      != list(range(places[0][0].of))]
  _report("The parameters cannot be exported by this table", {
      "parameters without a rule": unmatched, "matched twice": double,
      "of which a piece is missing": partial})
  return {name: _released(places) for name, places in slots.items()}


def _released(places: Sequence[tuple[Rule, Any, int | None]]) -> Any:
  """The tensor that these (rule, parameter, layer) are the pieces of."""

  def source(leaf, layer):
    if isinstance(leaf, lazy.Parameter):
      return leaf.source(layer)
    return np.asarray(leaf if layer is None else leaf[layer])

  def join(read):
    rule, *first = places[0]
    if rule.of == 1:
      return rule.transform.export(read(*first))
    pieces = [None] * rule.of
    for rule, *place in places:
      part = rule.transform.export(read(*place))
      part = part.reshape(len(rule.pieces), -1, *part.shape[1:])
      for piece, rows in zip(rule.pieces, part, strict=True):
        pieces[piece] = rows
    return np.concatenate(pieces)

  def stand_in(leaf, layer):
    shape = leaf.shape if layer is None else leaf.shape[1:]
    return np.broadcast_to(np.int8(0), shape)

  if all(isinstance(leaf, np.ndarray) for _, leaf, _ in places):
    return join(source)
  dtypes = [leaf.sources[layer][1].dtype if isinstance(leaf, lazy.Parameter)
            else leaf.dtype for _, leaf, layer in places]
  dtype = dtypes[0] if len(set(dtypes)) == 1 else np.dtype(np.float32)
  return lazy.Array(join(stand_in).shape, dtype, lambda: join(source))
