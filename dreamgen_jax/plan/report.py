"""One plan: compiles a step for a topology and says what comes of it."""

import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import re
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dreamgen_jax import errors, executable, flops
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
         money: float | None, cache: pathlib.Path | None,
         save: pathlib.Path | None = None, robot: str | None = None
         ) -> dict[str, Any]:
  """The plan of a stage, JSON-able.

  Args:
    config: the stage's section.
    on: what to compile for.
    sizes: of the mesh, instead of the section's.
    money: dollars of a chip-hour; None is the list price.
    cache: folder of compiled programs' texts; None keeps none.
    save: file for the compiled program; None keeps none.
    robot: see `steps.build`.
  """
  if save and "train" not in config:
    raise errors.ConfigError(
        f"The stage {config.stage!r} reads no compiled program; only trainings "
        "do. Leave out --save.")
  step = steps.build(config, sizes, on.devices, robot)
  plan: dict[str, Any] = {
      "topology": on.name, "chips": len(on.devices), "stage": config.stage,
      "mesh": {axis: int(size) for axis, size in step.mesh.shape.items()},
      "samples_per_step": step.samples, "calls": step.calls,
      "hbm_bytes": int(on.chip.hbm), "left_out": list(LEFT_OUT),
      "useful_flops": sum(
          each.times * flops.count(*each.useful) for each in step.programs)}
  found = [_compiled(each, step.mesh, on, cache, None if i else save)
           for i, each in enumerate(step.programs)]
  plan["compile_cpu_seconds"] = sum(
      facts["compile_cpu_seconds"] for facts, _ in found)
  plan |= max((facts["memory"] for facts, _ in found),
              key=lambda memory: memory["peak_hbm_bytes"])
  texts = [text for _, text in found if text]
  if len(texts) == len(found):
    cost, plan["parts"] = schedule.Cost(), {}
    for each, text in zip(step.programs, texts, strict=True):
      own = schedule.Walk(hlo.parse(text), on).total()
      cost.join(own, each.times)
      plan["parts"][each.name] = each.times * own.seconds
    plan |= price(cost, on, plan["useful_flops"], step.samples)
  else:
    plan |= dict.fromkeys(("seconds_per_step", "mfu", "samples_per_hour"))
    plan |= {"collectives": {}, "notes": []}
  return plan | _money(plan, on, money)


def _compiled(each: steps.Program, mesh: Any, on: chips.Topology,
              cache: pathlib.Path | None, save: pathlib.Path | None
              ) -> tuple[dict[str, Any], str | None]:
  """(facts, text) of a program, as it was compiled now or before.

  The text is None where the program takes more memory than a chip has.
  """
  with jax.set_mesh(mesh):
    lowered = executable.lower(
        jax.jit(each.function, donate_argnums=each.donated,
                out_shardings=each.lies), each.arguments,
        on.devices[0].platform)
  digest = executable.digest(lowered)
  key = hashlib.sha256(" ".join((
      digest, on.name, importlib.metadata.version("libtpu"),
      os.environ.get("LIBTPU_INIT_ARGS", ""))).encode())
  known = cache and cache / f"{key.hexdigest()[:16]}.json"
  if known and known.exists() and not save:
    facts, file = json.loads(known.read_text()), known.with_suffix(".hlo")
    return facts, file.read_text() if file.exists() else None
  begin = time.process_time()
  text: str | None = None
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    found = _too_big(error)
  else:
    text = compiled.as_text()
    found = memory(compiled.memory_analysis(), on, each.arguments)
    if save:
      executable.write(save, compiled, digest)
  facts = {"memory": found,
           "compile_cpu_seconds": time.process_time() - begin}
  if known:
    known.parent.mkdir(parents=True, exist_ok=True)
    if text:
      known.with_suffix(".hlo").write_text(text)
    known.write_text(json.dumps(facts, indent=1))
  return facts, text


def _bits(dtype):
  return jnp.iinfo(dtype).bits if jnp.issubdtype(
      dtype, jnp.integer) else 8 * dtype.itemsize


def memory(found: Any, on: chips.Topology, given: Any) -> dict[str, Any]:
  """What `memory_analysis` says of one chip, and what lies beside.

  Args:
    found: the compiler's analysis.
    on: the topology.
    given: the program's arguments. What it does not use, such as the text
      encoder of a dream, is dropped from it, and stays in memory all the same.
  """
  whole = sum(
      math.prod(leaf.sharding.shard_shape(leaf.shape)) * _bits(leaf.dtype) / 8
      for leaf in jax.tree.leaves(given))
  beside = max(0.0, whole - found.argument_size_in_bytes)
  # The allocations can be more than what is ever in use at once; and that
  # counts what lies in the host's memory, too.
  peak = beside + max(
      found.peak_memory_in_bytes - found.host_temp_size_in_bytes,
      found.argument_size_in_bytes + found.output_size_in_bytes
      - found.alias_size_in_bytes + found.temp_size_in_bytes)
  return {"fits": bool(peak <= on.chip.hbm), "peak_hbm_bytes": int(peak),
          "argument_bytes": int(found.argument_size_in_bytes),
          "beside_bytes": int(beside),
          "temporary_bytes": int(found.temp_size_in_bytes),
          "host_bytes": int(found.host_temp_size_in_bytes)}


def price(cost: schedule.Cost, on: chips.Topology, useful: float,
          samples: int) -> dict[str, Any]:
  """What a step costs.

  Args:
    cost: of one device.
    on: the topology it was compiled for.
    useful: operations of a step over all devices.
    samples: of a step.
  """
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
  """The memory of a program that does not fit, from the compiler's message."""
  text = str(error)
  used = re.search(r"[Uu]sed ([\d.]+)([KMG]) of ([\d.]+)([KMG]) hbm", text)
  if not used:
    raise error
  unit = {"K": 2**10, "M": 2**20, "G": 2**30}
  return {"fits": False,
          "peak_hbm_bytes": int(float(used.group(1)) * unit[used.group(2)])}


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
    found.append("keep less: model.kw.transformer.remat = "
                 "'attention_offload', or 'offload'")
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
    lines.append(f"  step        {plan['seconds_per_step']:.3g} s ({parts})")
    if len(plan["parts"]) > 1:
      lines += [f"    {name:<20} {seconds:.3g} s"
                for name, seconds in plan["parts"].items()]
    lines += [
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
