"""One plan: compiles a step for a topology and says what comes of it."""

import hashlib
import json
import math
import pathlib
import re
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dreamgen_jax import flops, runtime
from dreamgen_jax.plan import (
    chips,
    collectives,
    hlo,
    schedule,
    steps,
)

LEFT_OUT = (
    "host and input time, checkpoints, evaluation, start and compilation",
    "variation between chips, and failures",
    "collectives are priced by a model of the links, Pallas kernels by their "
    "scheduled bundles, the rest by the compiler's cycles or by HBM traffic",
    "nothing was run on a TPU",
)


def make(config: Any, on: chips.Topology, sizes: Mapping[str, int] | None,
         price: float | None, cache: pathlib.Path | None,
         save: pathlib.Path | None = None, robot: str | None = None
         ) -> dict[str, Any]:
  """The plan of a stage, JSON-able.

  Args:
    config: the stage's section.
    on: what to compile for.
    sizes: of the mesh, instead of the section's.
    price: dollars of a chip-hour; None is the list price.
    cache: folder of finished plans; None keeps none.
    save: file for the compiled program; None keeps none.
    robot: see `steps.build`.
  """
  key = _key(config, on, sizes, robot)
  known = cache / f"{key}.json" if cache else None
  if known and known.exists() and not save:
    plan = json.loads(known.read_text())
  else:
    step = steps.build(config, sizes, on.devices, robot)
    plan = _compile(step, config.stage, on, save,
                    cache and cache / f"{key}.hlo")
    if known:
      known.parent.mkdir(parents=True, exist_ok=True)
      known.write_text(json.dumps(plan, indent=1))
  return plan | _money(plan, on, price)


def _key(config, on, sizes, robot):
  home = pathlib.Path(__file__).parents[1]
  code = hashlib.sha256()
  for path in sorted(home.rglob("*.py")):
    code.update(path.read_bytes())
  text = json.dumps([config.to_dict(), on.name, dict(sizes or {}), robot,
                     runtime.versions(), code.hexdigest()],
                    sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _compile(step, stage, on, save, text_file):
  plan: dict[str, Any] = {
      "topology": on.name, "chips": len(on.devices), "stage": stage,
      "mesh": {axis: int(size) for axis, size in step.mesh.shape.items()},
      "samples_per_step": step.samples, "calls": step.calls,
      "hbm_bytes": int(on.chip.hbm), "left_out": list(LEFT_OUT)}
  plan["useful_flops"] = flops.count(*step.useful)
  begin, cpu = time.monotonic(), time.process_time()
  with jax.set_mesh(step.mesh):
    lowered = jax.jit(step.function, donate_argnums=step.donated).trace(
        *step.arguments).lower(lowering_platforms=("tpu",))
    try:
      compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
      return plan | _too_big(error)
  plan |= {"compile_seconds": time.monotonic() - begin,
           "compile_cpu_seconds": time.process_time() - cpu}
  if save:
    _save(compiled, save)
  text = compiled.as_text()
  if text_file:
    text_file.parent.mkdir(parents=True, exist_ok=True)
    text_file.write_text(text)
  found = compiled.memory_analysis()
  # What a program is given and does not use, such as the text encoder of a
  # dream, is dropped from it, and stays in memory all the same.
  given = sum(
      math.prod(leaf.sharding.shard_shape(leaf.shape)) * _bits(leaf.dtype) / 8
      for leaf in jax.tree.leaves(step.arguments))
  beside = max(0.0, given - found.argument_size_in_bytes)
  return plan | memory(found, on, beside) | price(
      text, on, plan["useful_flops"], step.samples)


def _bits(dtype):
  return jnp.iinfo(dtype).bits if jnp.issubdtype(
      dtype, jnp.integer) else 8 * dtype.itemsize


def memory(found: Any, on: chips.Topology, beside: float) -> dict[str, Any]:
  """What `memory_analysis` says of one chip, and bytes that lie beside."""
  # The allocations can be more than what is ever in use at once.
  peak = beside + max(
      found.peak_memory_in_bytes,
      found.argument_size_in_bytes + found.output_size_in_bytes
      - found.alias_size_in_bytes + found.temp_size_in_bytes)
  return {"fits": bool(peak <= on.chip.hbm), "peak_hbm_bytes": int(peak),
          "argument_bytes": int(found.argument_size_in_bytes),
          "beside_bytes": int(beside),
          "temporary_bytes": int(found.temp_size_in_bytes),
          "host_bytes": int(found.host_temp_size_in_bytes)}


def price(text: str, on: chips.Topology, useful: float,
          samples: int) -> dict[str, Any]:
  """What the scheduled program `text` costs.

  Args:
    text: of the program of one device.
    on: the topology it was compiled for.
    useful: operations of a step over all devices.
    samples: of a step.
  """
  cost = schedule.Walk(hlo.parse(text), on).total()
  peak = on.chip.peak * len(on.devices)
  return {
      "seconds_per_step": cost.seconds,
      "mfu": useful / (peak * cost.seconds),
      "samples_per_hour": 3600 * samples / cost.seconds,
      "chip_seconds_per_sample": cost.seconds * len(on.devices) / samples,
      "seconds": {
          "matrix products": cost.matmul_seconds,
          "attention kernels": cost.kernel_seconds,
          "the rest of the cores": cost.other_seconds,
          "waiting for links and DMA": cost.waiting_seconds},
      "compiled_flops_per_chip": cost.flops + cost.kernel_flops,
      "hbm_traffic_bytes": cost.hbm, "host_traffic_bytes": cost.host,
      "collectives": collectives.total(cost.exchanged),
      "loops": [{"name": name[-80:], "trips": trips, "seconds": seconds}
                for name, trips, seconds in cost.loops if trips > 1],
      "dearest": dict(sorted(
          cost.by_source.items(), key=lambda item: -item[1])[:16]),
      "notes": sorted(cost.notes)}


def _too_big(error):
  """A plan that does not fit, from the compiler's message."""
  text = str(error)
  used = re.search(r"[Uu]sed ([\d.]+)([KMG]) of ([\d.]+)([KMG]) hbm", text)
  if not used:
    raise error
  unit = {"K": 2**10, "M": 2**20, "G": 2**30}
  return {"fits": False,
          "peak_hbm_bytes": int(float(used.group(1)) * unit[used.group(2)]),
          "seconds_per_step": None, "mfu": None, "samples_per_hour": None,
          "collectives": {}, "notes": []}


def _save(compiled, path):
  from jax.experimental import serialize_executable

  payload, given, returned = serialize_executable.serialize(compiled)
  import pickle

  path.write_bytes(pickle.dumps((payload, given, returned)))


def _money(plan, on, price):
  """Chip-hours and dollars, of the stage and of a thousand samples."""
  rate = on.chip.price if price is None else price
  found: dict[str, Any] = {"dollars_per_chip_hour": rate}
  if plan.get("seconds_per_step"):
    each = plan["seconds_per_step"] * plan["chips"] / 3600
    found["chip_hours_per_1000_samples"] = (
        1000 * each / plan["samples_per_step"])
    if plan["calls"]:
      found["chip_hours"] = each * plan["calls"]
      found["dollars"] = found["chip_hours"] * rate
  return found


def advice(plan: Mapping[str, Any]) -> list[str]:
  """What to change when it does not fit, dearest memory first."""
  if plan["fits"]:
    return []
  mesh = plan["mesh"]
  batch = mesh["data"] * mesh["fsdp"]
  found = []
  if plan["stage"] != "dream":
    found.append("keep less: model.kw.transformer.remat = 'full', or 'offload'")
    if plan["samples_per_step"] > batch:
      found.append(f"a smaller train.batch_size (down to {batch})")
    found.append("fewer frames, or lora.quantize = 'nf4' where adapters train")
  if mesh["data"] > 1:
    found.append("move devices from the mesh's data axis to fsdp")
  found.append("move devices to the mesh's context axis: each holds fewer "
               "tokens (with a smaller batch)")
  found.append("more chips")
  return found


def show(plan: Mapping[str, Any]) -> str:
  """The plan for a terminal."""
  gib = chips.GIB
  mesh = " x ".join(f"{axis} {size}" for axis, size in plan["mesh"].items()
                    if size > 1) or "one chip"
  lines = [
      f"{plan['stage']} on {plan['topology']} ({plan['chips']} chips, {mesh}; "
      f"{plan['samples_per_step']} samples a step)",
      f"  memory      {plan['peak_hbm_bytes'] / gib:.1f} of "
      f"{plan['hbm_bytes'] / gib:.1f} GiB a chip: "
      + ("fits" if plan["fits"] else "DOES NOT FIT")]
  lines += [f"              try: {each}" for each in advice(plan)]
  if plan["seconds_per_step"]:
    parts = ", ".join(f"{name} {seconds:.3g}"
                      for name, seconds in plan["seconds"].items())
    lines += [
        f"  step        {plan['seconds_per_step']:.3g} s ({parts})",
        f"  operations  {plan['useful_flops'] / 1e15:.4g} PFLOP useful; MFU "
        f"{100 * plan['mfu']:.1f} %",
        f"  throughput  {plan['samples_per_hour']:.4g} samples an hour, "
        f"{plan['chip_seconds_per_sample']:.4g} chip-seconds each"]
    lines += [
        f"  {name:<22} {row['count']:6.0f} x, "
        f"{row['payload_bytes'] / gib:8.2f} GiB, {row['seconds']:.3g} s, "
        f"cores wait {row['blocking_seconds']:.3g} s"
        for name, row in plan["collectives"].items()]
    lines += [f"  loop of {loop['trips']}: {loop['seconds']:.4g} s each"
              for loop in plan["loops"]]
  lines.append(
      f"  money       {plan['chip_hours_per_1000_samples']:.4g} chip-hours a "
      "thousand samples" + (
          f"; the stage {plan['chip_hours']:.4g} chip-hours, "
          f"${plan['dollars']:,.0f}" if "dollars" in plan else "")
      + f" (at ${plan['dollars_per_chip_hour']} a chip-hour)"
      if "chip_hours_per_1000_samples" in plan else "")
  lines += [f"  note        {note}" for note in plan["notes"]]
  lines.append("  left out    " + "; ".join(plan["left_out"]))
  return "\n".join(line for line in lines if line)
