"""What chips exchange: bytes, and seconds by a model of the links.

The compiler has no estimate of these. A collective over a group of chips is
taken to use every link along the axes that the group spans, both ways where an
axis closes to a ring; a permutation pays for its busiest link. Groups that span
slices go over the data-centre network.
"""

import collections
import dataclasses
import itertools
import math
import re

import numpy as np

from dreamgen_jax.plan import chips, hlo

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all",
         "ragged-all-to-all", "collective-permute", "collective-broadcast")
_HOP = 1e-6  # seconds until the first byte arrives at a neighbour


@dataclasses.dataclass(frozen=True)
class Collective:
  """One exchange.

  Attributes:
    kind: of KINDS.
    payload: bytes of the whole that a device ends up with, or adds up.
    groups: devices that exchange with each other; pairs if it permutes.
  """

  kind: str
  payload: float
  groups: tuple[tuple[int, ...], ...]

  @property
  def size(self) -> int:
    """Devices of a group."""
    return 2 if self.kind == "collective-permute" else max(
        map(len, self.groups))


def find(program: hlo.Program, within: hlo.Computation,
         each: hlo.Instruction, devices: int) -> Collective | None:
  """The collective that an instruction is, or runs inside."""
  kind = re.sub(r"-(start|done)$", "", each.opcode)
  if kind in KINDS:
    return _read(kind, within, each, devices)
  if each.opcode not in ("fusion", "async-start", "call") or not each.called:
    return None
  inner = program.computations.get(each.called, {})
  found = [x for x in (find(program, inner, one, devices)
                       for one in inner.values()) if x]
  if not found:
    return None
  largest = max(found, key=lambda one: one.payload)
  if largest.kind == "all-reduce" and "reduce-scatter" in each.called:
    return dataclasses.replace(largest, kind="reduce-scatter")
  return largest


def _read(kind, within, each, devices):
  result = sum(array.size for array in hlo.arrays(each.type))
  given = sum(array.size for name in each.operands if name in within
              for array in hlo.arrays(within[name].type))
  if each.opcode.endswith("-start"):
    # Its type lists what goes in, then what comes out.
    result = given if kind in ("collective-permute", "all-reduce") else (
        result - given)
  groups = _groups(each.rest, devices)
  size = max(map(len, groups))
  return Collective(
      kind, result * size if kind == "reduce-scatter" else result, groups)


def _groups(text: str, devices: int) -> tuple[tuple[int, ...], ...]:
  pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", text)
  if pairs:
    return tuple((int(a), int(b)) for a, b in re.findall(
        r"\{(\d+),(\d+)", pairs.group(0)))
  iota = re.search(
      r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
  if iota:
    shape, base, order = (
        [int(n) for n in part.split(",")] if part else []
        for part in iota.groups())
    ids = np.arange(math.prod(base)).reshape(base)
    ids = ids.transpose(order) if order else ids
    return tuple(map(tuple, ids.reshape(shape).tolist()))
  listed = re.search(r"replica_groups=\{(\{.*?\})\}", text)
  if listed:
    return tuple(tuple(int(n) for n in group.split(","))
                 for group in re.findall(r"\{([\d,]+)\}", listed.group(1)))
  return (tuple(range(devices)),)


def seconds(what: Collective, on: chips.Topology) -> float:
  """From start to end, nothing else on the links."""
  if what.kind == "collective-permute":
    return _permute(what, on)
  count = what.size
  if count == 1:
    return 0.0
  group = [on.devices[i] for i in max(what.groups, key=len)]
  slices = len({_slice(device) for device in group})
  spans = [len({device.coords[axis] for device in group})
           for axis in range(len(group[0].coords))]
  spans = spans[:len(on.shape)]
  rate = sum(on.chip.link * (1 + (on.ring(axis) and span == on.shape[axis]))
             for axis, span in enumerate(spans) if span > 1)
  share = what.payload * (count - 1) / count
  if what.kind.endswith("all-to-all"):
    # What crosses the middle of the longest axis.
    axis = max(range(len(spans)), key=lambda i: spans[i])
    ways = 8 if on.ring(axis) and spans[axis] == on.shape[axis] else 4
    time = what.payload * spans[axis] / ways / on.chip.link
  else:
    time = share * (2 if what.kind == "all-reduce" else 1) / (
        rate or on.chip.link)
  if slices > 1:  # each chip holds its part of what slices must exchange
    inside = count // slices
    time += (2 if what.kind == "all-reduce" else 1) * (
        what.payload / inside * (slices - 1) / slices) / chips.DCN
  return time + _HOP * sum(spans)


def _slice(device):
  return getattr(device, "slice_index", 0) or 0


def _permute(what, on):
  """Shortest ways, one axis after the other; the busiest link decides."""
  load: collections.Counter = collections.Counter()
  farthest, across = 1, False
  for source, target in what.groups:
    a, b = on.devices[source], on.devices[target]
    if _slice(a) != _slice(b):
      across = True
      continue
    at, steps = list(a.coords), 0
    for axis, size in enumerate(on.shape):
      while at[axis] != b.coords[axis]:
        way = b.coords[axis] - at[axis]
        step = 1 if way > 0 else -1
        if on.ring(axis) and abs(way) * 2 > size:
          step = -step
        load[_slice(a), tuple(at), axis, step] += 1
        at[axis] = (at[axis] + step) % size
        steps += 1
    farthest = max(farthest, steps)
  busiest = max(load.values(), default=1)
  time = what.payload * busiest / on.chip.link + _HOP * farthest
  return max(time, what.payload / chips.DCN) if across else time


def total(found: list[tuple[Collective, float, float, float]]
          ) -> dict[str, dict[str, float]]:
  """(what, times, seconds of all, of which the cores wait) -> by kind/size."""
  rows: dict[str, dict[str, float]] = {}
  for (name, _), group in itertools.groupby(
      sorted(((f"{what.kind}/{what.size}", (what, times, time, waits))
              for what, times, time, waits in found), key=lambda x: x[0]),
      key=lambda x: (x[0], 0)):
    entries = [entry for _, entry in group]
    rows[name] = {
        "count": sum(times for _, times, _, _ in entries),
        "payload_bytes": sum(w.payload * n for w, n, _, _ in entries),
        "seconds": sum(time for _, _, time, _ in entries),
        "blocking_seconds": sum(wait for _, _, _, wait in entries)}
  return rows
