"""Reads the text of a compiled, scheduled HLO program.

The TPU's compiler prints no trip counts of its loops and spreads an instruction
with kernel metadata over several lines; both are dealt with here.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

_BITS = {"pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16,
         "s32": 32, "u32": 32, "s64": 64, "u64": 64, "bf16": 16, "f16": 16,
         "f32": 32, "f64": 64, "f8e4m3fn": 8, "f8e5m2": 8, "c64": 64}
_ARRAY = re.compile(r"\b(\w+)\[([0-9,]*)\](\{[^{}]*\})?")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{\s*$")
_START = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_OPCODE = re.compile(r"\s*([\w\-]+)\(")
HBM, VMEM, HOST = 0, 1, 5  # memory spaces of layouts


@dataclasses.dataclass(frozen=True)
class Array:
  """One array of a type."""

  dtype: str
  shape: tuple[int, ...]
  space: int

  @property
  def size(self) -> float:
    """Bytes."""
    return math.prod(self.shape) * _BITS[self.dtype] / 8


@functools.lru_cache(maxsize=100_000)
def arrays(type_: str) -> tuple[Array, ...]:
  """The arrays of a type, tuples in a row."""
  found = []
  for dtype, shape, layout in _ARRAY.findall(type_):
    if dtype in _BITS:
      space = re.search(r"S\((\d+)\)", layout)
      found.append(Array(
          dtype, tuple(int(n) for n in shape.split(",") if n),
          int(space.group(1)) if space else HBM))
  return tuple(found)


@dataclasses.dataclass
class Instruction:
  """One line of a computation.

  Attributes:
    name, type, opcode: as printed.
    operands: names.
    inside: the text between the parentheses.
    rest: all that follows them.
    root: whether it is the computation's result.
  """

  name: str
  type: str
  opcode: str
  operands: tuple[str, ...]
  inside: str
  rest: str
  root: bool

  def attribute(self, key: str) -> str | None:
    """The name that follows `key=`."""
    found = re.search(rf"[, ]{key}=%?([\w.\-]+)", self.rest)
    return found.group(1) if found else None

  @property
  def cycles(self) -> int | None:
    """The compiler's estimate, if it has one."""
    found = re.search(r'"estimated_cycles":"?(\d+)', self.rest)
    return int(found.group(1)) if found else None

  @property
  def source(self) -> str:
    """Where in the traced program it is from."""
    found = re.search(r'op_name="([^"]*)"', self.rest)
    return found.group(1) if found else ""

  @property
  def called(self) -> str | None:
    """The computation that it runs as its body."""
    return self.attribute("calls") or self.attribute("to_apply")

  @property
  def number(self) -> int | None:
    """The value of an integer constant, or a parameter's place."""
    found = re.search(r"-?\d+", self.inside)
    return int(found.group(0)) if found else None


Computation = dict[str, Instruction]


@dataclasses.dataclass
class Program:
  """Computations by name, instructions in schedule order; `entry` is first."""

  computations: dict[str, Computation]
  entry: str

  def trips(self, loop: Instruction, around: Computation) -> int | None:
    """How often a loop `i = first; while (i < last); i += step` runs."""
    known = re.search(r"known_trip_count[^0-9]*(\d+)", loop.rest)
    if known:
      return int(known.group(1))
    condition = self.computations[loop.attribute("condition") or ""]
    for limit, counter in self._comparisons(condition):
      place = re.search(r"index=(\d+)", counter.rest)
      if counter.opcode != "get-tuple-element" or not place:
        continue
      index = int(place.group(1))
      body = self.computations[loop.attribute("body") or ""]
      step = self._step(body, index) or 1
      state = around.get(loop.operands[0])
      first = None
      if state is not None and state.opcode == "tuple":
        first = _constant(around.get(state.operands[index]))
      return max(1, -(-(limit - (first or 0)) // step))
    return None

  def _comparisons(self, condition: Computation
                   ) -> Iterator[tuple[int, Instruction]]:
    """(constant, what is compared to it) of each `x < constant`."""
    for each in condition.values():
      if each.opcode == "compare" and "direction=LT" in each.rest:
        sides = [_plain(condition, name) for name in each.operands]
      elif each.opcode == "fusion":
        inner = self.computations[each.called or ""]
        compare = next((x for x in inner.values() if x.opcode == "compare"
                        and "direction=LT" in x.rest), None)
        if compare is None:
          continue
        sides = []
        for name in compare.operands:
          side = _plain(inner, name)
          if side is not None and side.opcode == "parameter":
            side = _plain(condition, each.operands[side.number or 0])
          sides.append(side)
      else:
        continue
      limit = _constant(sides[1])
      if limit is not None and sides[0] is not None:
        yield limit, sides[0]

  def _step(self, body: Computation, index: int) -> int | None:
    """By how much a loop's body raises its counter."""
    root = next(x for x in body.values() if x.root)
    if root.opcode != "tuple":
      return None

    def raised(name: str, within: Computation,
               given: tuple[str, ...] | None) -> int | None:
      each = _plain(within, name)
      if each is None:
        return None
      if each.opcode == "get-tuple-element":
        return 0 if f"index={index}" in each.rest else None
      if each.opcode == "parameter" and given is not None:
        return raised(given[each.number or 0], body, None)
      if each.opcode == "add":
        total = 0
        for operand in each.operands:
          plain = _plain(within, operand)
          if (plain is not None and plain.opcode == "parameter"
              and given is not None):
            plain = _plain(body, given[plain.number or 0])
          constant = _constant(plain)
          more = constant if constant is not None else raised(
              operand, within, given)
          if more is None:
            return None
          total += more
        return total
      if each.opcode == "fusion":
        inner = self.computations[each.called or ""]
        result = next(x for x in inner.values() if x.root)
        return raised(result.name, inner, each.operands)
      return None

    return raised(root.operands[index], body, None)


def _plain(within: Computation, name: str) -> Instruction | None:
  """What stands behind copies of it."""
  each = within.get(name)
  while each is not None and each.opcode in ("copy", "bitcast", "convert"):
    each = within.get(each.operands[0])
  return each


def _constant(each: Instruction | None) -> int | None:
  return each.number if each is not None and each.opcode == "constant" else None


def parse(text: str) -> Program:
  """The text of `compiled.as_text()` -> the program."""
  computations: dict[str, Computation] = {}
  current: Computation | None = None
  entry, last = "", None
  for line in text.splitlines():
    if current is None:
      header = _HEADER.match(line)
      if header:
        current = computations[header.group(2)] = {}
        entry = header.group(2) if header.group(1) else entry
    elif line.rstrip() == "}":
      current = None
    elif start := _START.match(line):
      last = _instruction(start, line)
      current[last.name] = last
    elif last is not None:
      last.rest += " " + line
  return Program(computations, entry)


def _instruction(start: re.Match, line: str) -> Instruction:
  begin = start.end()
  end = (_closing(line, begin) if line[begin] == "("
         else line.index(" ", begin))
  opcode = _OPCODE.match(line, end)
  if opcode is None:
    raise ValueError(f"No instruction: {line[:200]}")
  last = _closing(line, opcode.end() - 1)
  inside = line[opcode.end():last - 1]
  return Instruction(
      start.group(2), line[begin:end], opcode.group(1),
      tuple(re.findall(r"%([\w.\-]+)", inside)), inside, line[last:],
      bool(start.group(1)))


def _closing(line: str, at: int) -> int:
  """Just behind the parenthesis that closes the one at `at`."""
  depth = 0
  for i in range(at, len(line)):
    depth += (line[i] == "(") - (line[i] == ")")
    if not depth:
      return i + 1
  return len(line)
