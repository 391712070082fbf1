"""Cycles of the attention kernels, from the TPU compiler's final schedule.

  python -m dreamgen_jax.benchmarks.kernel_schedule --topology=v5p:2x2x1 \\
      --part=forward [--tokens=32760] [--heads=10] [--blocks=2048,2048,1024]

Needs libtpu and no TPU. Compiles one kernel, lets the compiler dump its VLIW
bundles, and counts those of one step of the grid; what runs only at a row's
first or last step counts by its share. Bundles hold no stalls, of which DMA
and full MXUs are the likely ones, so the figure is never less than what the
MXUs take: 16 rows of bfloat16 a product, one row a cycle (two on v6e).
`plan/kernels.py` holds the results.
"""

import dataclasses
import os
import pathlib
import re
import sys
import tempfile
from typing import Any

from dreamgen_jax import errors, options

HELP = {
    "topology": ("v5p:2x2x1", "one host of the generation"),
    "part": ("forward", "forward or backward"),
    "tokens": (32_760, "of queries and of keys"),
    "heads": (10, "of 128 dims"),
    "blocks": "queries, keys, and keys at once, e.g. 2048,2048,1024",
}
_ROWS = 16  # of bfloat16 that one instruction multiplies
_ROWS_A_CYCLE = {"v6e": 2}  # others: 1
_LINE = re.compile(r"^\s*(?:0x)?([0-9a-f]+)\s+(?:\w\w)?\s*:")


def step_cycles(bundles: str, rows_a_cycle: int, inner: int) -> float:
  """Cycles of one step of a kernel's grid.

  Args:
    bundles: the compiler's `final_bundles` text of the kernel.
    rows_a_cycle: that an MXU multiplies.
    inner: steps of the grid's last axis; what runs once a row is divided.
  """
  at, begin, end, products = 0, None, 0, 0
  opened: dict[str, int] = {}  # regions that a branch may leave out
  regions = []
  for line in bundles.splitlines():
    if found := _LINE.match(line):
      at = int(found.group(1), 16)
    if begin is None and re.match(r"^\s*0x[0-9a-f]+\s+LB:", line):
      begin = at
    if found := re.search(r"sbr\.rel \(%\w+\) target = \$region(\d+)", line):
      opened[found.group(1)] = at
    if " PF:" in line:
      regions += [(opened.pop(region), at)
                  for region in re.findall(r"region (\d+)", line)
                  if region in opened]
    if "loop exit test" in line:
      end = at
    products += len(re.findall(r"vmatmul[\w.]*mxu0", line))
  if begin is None:
    raise ValueError("There is no loop in these bundles.")
  whole = end - begin
  once = sum(last - first for first, last in regions
             if last - first < whole / 4)
  straight = whole - once
  return max(straight, products * _ROWS / rows_a_cycle) + once / inner


@options.program(__doc__, HELP)
def main(given: Any) -> None:
  """Runs the program."""
  if given.part not in ("forward", "backward"):
    raise errors.ConfigError(
        f"--part={given.part}; have: forward, backward.")
  with tempfile.TemporaryDirectory() as folder:
    os.environ["LIBTPU_INIT_ARGS"] = (
        f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true")
    steps, inner = _compile(given)
    found = [path for path in pathlib.Path(folder).glob(
        f"*flash_{given.part}*-final_bundles.txt")
        if "schedule-analysis" not in path.name]
    generation = given.topology.partition(":")[0]
    cycles = step_cycles(
        found[0].read_text(errors="replace"),
        _ROWS_A_CYCLE.get(generation, 1), inner)
  print(f"{given.part} on {generation}: {cycles:,.0f} cycles a step, "
        f"{steps} steps, {steps * cycles / 1e6:.1f}M cycles on all cores")


def _compile(given):
  """Compiles the kernel; (steps of its grid, those of the last axis)."""
  from dreamgen_jax.plan import chips

  chips.prepare()
  import jax
  import jax.numpy as jnp
  import numpy as np

  from dreamgen_jax.layers import flash

  on = chips.topology(given.topology)
  tuned = flash.TUNING[on.generation]
  if given.blocks:
    rows, columns, chunk = map(int, given.blocks.split(","))
    tuned = dataclasses.replace(
        tuned, **{given.part: (rows, columns)}, chunk=chunk)
  mesh = jax.sharding.Mesh(np.array(on.devices[:1]), ("x",))
  whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

  def shape(*sizes, dtype=jnp.bfloat16):
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=whole)

  x = shape(given.heads, given.tokens, flash.LANES)
  if given.part == "forward":
    function, inputs = flash.forward, (x, x, x)
  else:
    function, inputs = flash.backward, (
        x, x, x, x, shape(given.heads, given.tokens, dtype=jnp.float32), x)
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    jax.jit(lambda *x: function(*x, scale=0.1, tuned=tuned)).trace(
        *inputs).lower(lowering_platforms=("tpu",)).compile()
  rows, columns = getattr(tuned, given.part)
  outer, inner = -(-given.tokens // rows), -(-given.tokens // columns)
  if given.part == "backward":
    outer, inner = inner, outer
  return given.heads * outer * inner, inner


if __name__ == "__main__":
  sys.exit(main())
