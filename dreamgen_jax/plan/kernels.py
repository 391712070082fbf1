"""Cycles of our Pallas kernels, for which the compiler prints no estimate.

A kernel runs the same schedule at every step of its grid. Its length was read
from the compiler's final VLIW bundles (`benchmarks/kernel_schedule.py`), and
is never taken to be less than what the MXUs need, which the bundles can be.
"""

import dataclasses
import math
import re

from dreamgen_jax.layers import flash
from dreamgen_jax.plan import chips, hlo


@dataclasses.dataclass(frozen=True)
class Schedule:
  """Of one kernel on one generation.

  Attributes:
    step: cycles of one step of the grid with the tuned blocks.
    cores: TensorCores of a chip that share the grid.
  """

  step: float
  cores: int


# Measured with libtpu 0.0.42.1; (kernel, generation).
SCHEDULES = {
    ("flash_forward", "v5p"): Schedule(17_469, 2),
    ("flash_backward", "v5p"): Schedule(10_260, 2),
    ("flash_forward", "v6e"): Schedule(10_555, 1),
    ("flash_backward", "v6e"): Schedule(5_477, 1),
}
_PRODUCTS = {"flash_forward": 2, "flash_backward": 5}


def price(each: hlo.Instruction, within: hlo.Computation, generation: str,
          notes: set[str]) -> tuple[float, float]:
  """(FLOPs, seconds) of a Pallas call; seconds 0 means: HBM decides.

  Args:
    each: the call.
    within: what it is called in, for the shapes of its operands.
    generation: of `chips.CHIPS`.
    notes: gets what could not be priced.
  """
  found = re.search(r"flash_forward|flash_backward|rope_turn",
                    each.name + each.source + each.rest)
  kernel = found.group(0) if found else each.name
  if kernel == "rope_turn":
    return 0.0, 0.0
  if kernel not in _PRODUCTS:
    notes.add(f"the Pallas kernel {kernel} is priced by its HBM traffic alone")
    return 0.0, 0.0
  q, k = (hlo.arrays(within[name].type)[0].shape[-3:]
          for name in each.operands[:2])
  heads, length, dim = q
  area = float(heads) * length * k[1]
  flops = 2.0 * _PRODUCTS[kernel] * area * dim
  schedule = SCHEDULES.get((kernel, generation))
  if schedule is None:
    notes.add(f"{kernel} on {generation} is priced at 60 % of peak")
    return flops, flops / (0.6 * chips.CHIPS[generation].peak)
  tuned = flash.TUNING[generation]
  rows, columns = (tuned.forward if kernel == "flash_forward"
                   else tuned.backward)
  # Smaller blocks, of short keys, take their share of a step.
  cycles = schedule.step * area / (rows * columns)
  # Cores share heads backwards, blocks of queries forwards.
  parts = heads * (math.ceil(length / rows) if kernel == "flash_forward" else 1)
  busy = math.ceil(parts / schedule.cores) * schedule.cores / parts
  return flops, busy * cycles / schedule.cores / chips.CHIPS[generation].clock
