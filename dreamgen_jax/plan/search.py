"""Tries meshes and what the backward pass keeps, and ranks the plans."""

import copy
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from dreamgen_jax import errors
from dreamgen_jax.layers import stack
from dreamgen_jax.plan import chips, report

# Most memory first.
_KEPT = ("attention_inputs", "attention", "attention_offload", "offload")
_CONTEXTS = (1, 2, 4, 8)


def ranked(config: Any, on: chips.Topology, sizes: Mapping[str, int] | None,
           price: float | None, cache: pathlib.Path | None,
           robot: str | None = None) -> list[dict[str, Any]]:
  """Plans, cheapest sample first, those that do not fit last.

  For each mesh the search stops at the first policy that fits, since keeping
  less only costs time.

  Args:
    config: the stage's section.
    on, sizes, price, cache, robot: as of `report.make`; given sizes are kept.

  Raises:
    ConfigError: nothing could be compiled.
  """
  plans = []
  for mesh, variants in candidates(config, len(on.devices), sizes):
    for changes, variant in variants:
      try:
        plan = report.make(variant, on, mesh, price, cache, robot=robot)
      except errors.ConfigError as error:
        print(f"left out {mesh}: {error}", flush=True)
        break
      plans.append(plan | {"changes": changes})
      print(report.show(plans[-1]).splitlines()[0], changes, flush=True)
      if plan["fits"]:
        break
  if not plans:
    raise errors.ConfigError(f"No mesh of {on.name} suits this stage.")
  return sorted(plans, key=lambda plan: (
      not plan["fits"], plan.get("chip_seconds_per_sample") or 0.0))


def candidates(config: Any, count: int, sizes: Mapping[str, int] | None
               ) -> Iterator[tuple[Mapping[str, int], list[Any]]]:
  """(mesh, [(what is changed, section)]), most promising first."""
  meshes = [sizes] if sizes else [
      {"fsdp": count // context, "context": context}
      for context in _CONTEXTS if count % context == 0]
  for mesh in meshes:
    batch = count // mesh.get("context", 1) // mesh.get("tensor", 1)
    if "train" not in config:
      yield mesh, [({}, config)]
      continue
    variants = []
    for kept in _KEPT:
      assert kept in stack.POLICIES
      variant = copy.deepcopy(config).unlock()
      if "transformer" in variant.model.get("kw", {}):
        variant.model.kw.transformer.remat = kept
      # As many samples as rows of the mesh; the same number in all.
      steps = config.train.steps * config.train.batch_size // batch
      variant.train.batch_size, variant.train.steps = batch, steps
      variants.append(({"remat": kept, "batch_size": batch}, variant.lock()))
    yield mesh, variants
