"""Walks a scheduled program as the chip would, and adds up what it costs.

An instruction costs
  with a matrix product  the compiler's cycles, or what peak and HBM allow;
  a Pallas kernel        its own schedule (`kernels`), or what HBM allows;
  anything else          its HBM traffic at 80 % of the bandwidth: the
                         compiler's cycles for these are up to four times off;
  a collective           see `collectives`; one that is not asynchronous stops
                         the cores, another one those that wait for its end.
Loops cost their trips. Left out: the host, DMA into VMEM that the compiler
prefetches, and variation between chips.
"""

import collections
import dataclasses
import functools
import math
import re
from typing import Any

from dreamgen_jax.plan import chips, collectives, hlo, kernels

_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast",
         "after-all", "partition-id", "replica-id", "iota"}
_HBM_SHARE = 0.8


@dataclasses.dataclass
class Cost:
  """What a computation costs one device.

  Attributes:
    seconds: from start to end.
    matmul_seconds, kernel_seconds, other_seconds, waiting_seconds: of these.
    flops, kernel_flops: as compiled, padding and recomputation included.
    cycles: the compiler's own estimate; Pallas kernels have none.
    hbm: bytes moved.
    host: bytes to and from the host's memory.
    exchanged: (collective, times, seconds, of which the cores wait).
    by_source: seconds by place in the traced program.
    loops: (name, trips, seconds of one), outermost.
    notes: what could not be priced.
  """

  seconds: float = 0.0
  matmul_seconds: float = 0.0
  kernel_seconds: float = 0.0
  other_seconds: float = 0.0
  waiting_seconds: float = 0.0
  flops: float = 0.0
  kernel_flops: float = 0.0
  cycles: float = 0.0
  hbm: float = 0.0
  host: float = 0.0
  exchanged: list[tuple[collectives.Collective, float, float, float]] = (
      dataclasses.field(default_factory=list))
  by_source: dict[str, float] = dataclasses.field(
      default_factory=lambda: collections.defaultdict(float))
  loops: list[tuple[str, int, float]] = dataclasses.field(
      default_factory=list)
  notes: set[str] = dataclasses.field(default_factory=set)

  _SUMS = ("matmul_seconds", "kernel_seconds", "other_seconds",
           "waiting_seconds", "flops", "kernel_flops", "cycles", "hbm", "host")

  def add(self, other: "Cost", times: float = 1.0) -> None:
    """Adds another one's, but for `seconds` and `loops`."""
    for name in self._SUMS:
      setattr(self, name, getattr(self, name) + times * getattr(other, name))
    self.exchanged += [(what, times * n, times * time, times * wait)
                       for what, n, time, wait in other.exchanged]
    for source, seconds in other.by_source.items():
      self.by_source[source] += times * seconds
    self.notes |= other.notes

  def join(self, other: "Cost", times: float) -> None:
    """Adds another program's, run `times` after this one."""
    self.add(other, times)
    self.seconds += times * other.seconds
    self.loops += other.loops


class Walk:
  """Prices a program for a topology."""

  def __init__(self, program: hlo.Program, on: chips.Topology):
    self._program, self._on, self._chip = program, on, on.chip
    self._exchange_seconds = functools.lru_cache(maxsize=None)(
        lambda what: collectives.seconds(what, on))

  def total(self) -> Cost:
    """Of the whole program."""
    return self.cost(self._program.entry)

  @functools.cache  # noqa: B019  a walk lives as long as its one report
  def cost(self, name: str) -> Cost:
    """Of one computation, started once."""
    cost, within = Cost(), self._program.computations[name]
    now, links_free = 0.0, 0.0
    pending: dict[str, float] = {}  # what is under way -> when it is done
    for each in within.values():
      if each.opcode in _FREE:
        continue
      if each.opcode in ("while", "conditional", "call"):
        now += self._nested(cost, each, within)
      elif each.opcode.endswith("-done"):
        ready = pending.pop(each.operands[0] if each.operands else "", now)
        cost.waiting_seconds += max(0.0, ready - now)
        now = max(now, ready)
      elif each.opcode == "async-update":
        if each.operands[0] in pending:
          pending[each.name] = pending.pop(each.operands[0])
      elif what := collectives.find(
          self._program, within, each, len(self._on.devices)):
        time = self._exchange_seconds(what)
        work = (self._work(cost, each, within)
                if self._flops(each, within) else 0.0)
        begin = max(now, links_free)
        if each.opcode.endswith("-start"):
          links_free = pending[each.name] = begin + time
          cost.exchanged.append((what, 1, time, 0.0))
        else:  # blocks, but for what it computes itself meanwhile
          wait = max(0.0, time - work)
          cost.exchanged.append((what, 1, time, wait))
          cost.waiting_seconds += wait
          now += work + wait
      elif each.opcode.endswith("-start"):
        size = _host_bytes(each)
        cost.host += size
        if size:  # to or from the host's memory, by a DMA of its own
          pending[each.name] = now + size / self._chip.pci
      else:
        now += self._work(cost, each, within)
    late = max([0.0, *(ready - now for ready in pending.values())])
    cost.waiting_seconds += late
    cost.seconds = now + late
    return cost

  def _nested(self, cost, each, within):
    """Seconds of a loop, a branch or a call; the rest goes to `cost`."""
    if each.opcode == "while":
      trips = self._program.trips(each, within)
      if trips is None:
        cost.notes.add(f"trips of {each.name} unknown, counted once")
      body = self.cost(each.attribute("body"))
      cost.add(body, trips or 1)
      cost.loops.append((each.source or each.name, trips or 1, body.seconds))
      return (trips or 1) * body.seconds
    if each.opcode == "call":
      names = [each.called]
    else:
      listed = re.search(r"branch_computations=\{([^}]*)\}", each.rest)
      names = (re.findall(r"[\w.\-]+", listed.group(1)) if listed else
               [each.attribute("true_computation"),
                each.attribute("false_computation")])
    dearest = max((self.cost(name) for name in names if name),
                  key=lambda one: one.seconds)
    cost.add(dearest)
    cost.loops += dearest.loops
    return dearest.seconds

  def _work(self, cost, each, within):
    """Seconds of one instruction of the cores."""
    moved = hbm_bytes(self._program, within, each)
    memory = moved / self._chip.bandwidth
    cycles = each.cycles or 0
    cost.hbm += moved
    cost.cycles += cycles
    if each.opcode == "custom-call":
      if 'custom_call_target="tpu_custom_call"' not in each.rest:
        seconds = cycles / self._chip.clock
        cost.other_seconds += seconds
        return seconds
      flops, own = kernels.price(
          each, within, self._on.generation, cost.notes)
      seconds = max(own, memory / _HBM_SHARE)
      cost.kernel_flops += flops
      cost.kernel_seconds += seconds
    else:
      flops = self._flops(each, within)
      cost.flops += flops
      if flops:
        seconds = max(cycles / self._chip.clock, flops / self._chip.peak,
                      memory)
        cost.matmul_seconds += seconds
      else:
        seconds = memory / _HBM_SHARE
        cost.other_seconds += seconds
    cost.by_source[_place(each)] += seconds
    return seconds

  def _flops(self, each, within):
    if each.opcode in ("convolution", "dot"):
      return product_flops(each, within)
    if each.opcode == "fusion":
      return self._fused(each.called)
    return 0.0

  @functools.cache  # noqa: B019
  def _fused(self, name: str) -> float:
    within = self._program.computations.get(name, {})
    return sum(self._flops(each, within) for each in within.values())


def _place(each):
  source = re.sub(r"jit\([^)]*\)/|while/body/|closed_call/|checkpoint/|"
                  r"rematted_computation/|remat\d*/", "", each.source)
  return source[-100:] or each.opcode


def _host_bytes(each):
  """What a copy moves between chip and host: a slice of a stack, often."""
  found = hlo.arrays(each.type)
  if any(array.space == hlo.HOST for array in found):
    return max((array.size for array in found if array.space != hlo.HOST),
               default=0.0)
  return 0.0


def product_flops(each: hlo.Instruction, within: hlo.Computation) -> float:
  """2 x multiplications of a convolution, which products are too, or a dot."""
  result = hlo.arrays(each.type)[0].shape
  sides = [hlo.arrays(within[name].type)[0].shape
           for name in each.operands[:2]]
  if each.opcode == "dot":
    dims = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", each.rest)
    inner = math.prod(sides[0][int(i)] for i in dims.group(1).split(",") if i
                      ) if dims else 1
    return 2.0 * math.prod(result) * inner
  labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", each.rest)
  if not labels:
    return 0.0
  of_input, of_kernel, of_result = labels.groups()
  given_window = re.search(r"window=\{([^}]*)\}", each.rest)
  window = given_window.group(1) if given_window else ""
  spatial = sum(letter.isdigit() for letter in of_result)

  def setting(key, default):
    found = re.search(rf"{key}=(\S+)", window)
    return found.group(1).split("x") if found else [default] * spatial

  columns = zip(
      setting("size", "1"), setting("stride", "1"), setting("pad", "0_0"),
      setting("lhs_dilate", "1"), setting("rhs_dilate", "1"), strict=True)
  taps = 1.0
  for i, (size, stride, pad, spread, apart) in enumerate(columns):
    given = sides[0][of_input.index(str(i))]
    taps *= _taps(given, result[of_result.index(str(i))], int(size),
                  int(stride), int(pad.split("_")[0]), int(spread), int(apart))
  groups = re.search(r"batch_group_count=(\d+)", each.rest)
  inner = sides[1][of_kernel.index("i")]
  return 2.0 * taps * inner * result[of_result.index("b")] * result[
      of_result.index("f")] / (int(groups.group(1)) if groups else 1)


@functools.lru_cache(maxsize=10_000)
def _taps(given, wanted, size, stride, pad, spread, apart):
  """Pairs (output, tap) along one axis that meet an input, padding not."""
  reach = (given - 1) * spread + 1
  if wanted * size > 1 << 22:
    return min(wanted * size, given * max(size, wanted))
  return sum(1 for at in range(wanted) for tap in range(size)
             if 0 <= (place := at * stride - pad + tap * apart) < reach
             and place % spread == 0)


def hbm_bytes(program: hlo.Program, within: hlo.Computation,
              each: hlo.Instruction) -> float:
  """Traffic of an instruction; slices of a big array count as slices."""

  def size(type_: str) -> float:
    return sum(array.size for array in hlo.arrays(type_)
               if array.space == hlo.HBM)

  out = size(each.type)
  given = [size(within[name].type) if name in within else 0.0
           for name in each.operands]
  if each.opcode == "dynamic-update-slice":
    return 2 * given[1]
  if each.opcode in ("dynamic-slice", "slice"):
    return 2 * out
  if each.opcode != "fusion":
    return out + sum(given)
  inner: Any = program.computations.get(each.called or "", {})
  places = {x.name: x.number or 0 for x in inner.values()
            if x.opcode == "parameter"}
  for name, place in places.items():
    users = [(x, x.operands.index(name)) for x in inner.values()
             if name in x.operands]
    if not users or place >= len(given):
      continue
    if all(x.opcode in ("dynamic-slice", "slice", "gather") and at == 0
           for x, at in users):
      given[place] = min(given[place], sum(size(x.type) for x, _ in users))
    elif all(x.opcode == "dynamic-update-slice" and at == 0
             for x, at in users):
      given[place] = 0.0
  for x in inner.values():
    if x.opcode == "dynamic-update-slice" and x.operands[0] in places:
      out += size(inner[x.operands[1]].type) - size(x.type)
  return max(out, 0.0) + sum(given)
