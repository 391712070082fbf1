"""The road: which stage runs on whose output, in what order, and when not.

Every section of a config that has a `stage` is one step of the road. Its
`inputs` name other sections, or folders on disk. A finished step is not run
again unless its own section, the code's version or its inputs changed.
"""

import contextlib
import dataclasses
import importlib
import pathlib
import time
from typing import Any

import ml_collections

from dreamgen_jax import errors, registry, storage
from dreamgen_jax.data import catalogue
from dreamgen_jax.stages import adapters, artefact, models

# How a training runs rather than what it results in: with other values the
# same result goes on, so that all count as these.
RUNNING = {"mesh": {"data": -1}, "checkpoint_seconds": 60.0}
DROPPED = ("nonfinite", "program")


@dataclasses.dataclass(frozen=True)
class Step:
  """One section of the config that runs a stage."""

  name: str
  stage: str
  config: ml_collections.ConfigDict
  inputs: dict[str, str]


def steps(config: ml_collections.ConfigDict) -> dict[str, Step]:
  """The config's steps by name, each after the steps it reads from.

  Raises:
    ConfigError: an input names neither a step nor a folder, or a circle.
  """
  found = {
      name: Step(name, section.stage, section,
                 dict(section.get("inputs", {})))
      for name, section in config.items()
      if isinstance(section, ml_collections.ConfigDict) and "stage" in section
  }
  ordered: dict[str, Step] = {}

  def visit(name: str, above: tuple[str, ...]) -> None:
    if name in above:
      raise errors.ConfigError(
          f"The inputs of {' -> '.join((*above, name))} form a circle.")
    if name in ordered:
      return
    for key, source in found[name].inputs.items():
      if source in found:
        visit(source, (*above, name))
      elif not pathlib.Path(source).exists():
        raise errors.ConfigError(
            f"config.{name}.inputs.{key} = {source!r} is neither a stage of "
            "this config nor a folder." + registry.nearest(
                source, list(found)))
    ordered[name] = found[name]

  for name in found:
    visit(name, ())
  return ordered


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path,
        only: str | None = None) -> None:
  """Runs all steps in order, or only the one named.

  Several processes of one run share the workdir; the first keeps its books.

  Raises:
    ConfigError: no such step, or a step it needs has not finished.
    StorageError: the workdir's disk is full, read-only or gone.
  """
  workdir = pathlib.Path(workdir).absolute()
  road = steps(config)
  if only and only not in road:
    raise errors.ConfigError(
        f"No stage {only!r} in this config; have: {', '.join(road)}."
        + registry.nearest(only, list(road)))
  resolved = {name: resolve(step) for name, step in road.items()}
  from dreamgen_jax import hosts, runtime  # JAX; config mistakes come before

  runtime.start(workdir / ".compile_cache")
  if hosts.first():
    artefact.claim(workdir, config.to_dict())
  hosts.barrier()
  begin = time.monotonic()
  with storage.explained(workdir):
    _walk(road, resolved, workdir, only)
  hosts.say(f"Finished in {time.monotonic() - begin:.0f} s: {workdir}")


def _walk(road: dict[str, Step], resolved: dict[str, Any],
          workdir: pathlib.Path, only: str | None) -> None:
  from dreamgen_jax import hosts

  outputs: dict[str, artefact.Artefact] = {}
  for name, step in road.items():
    outputs[name] = output = artefact.Artefact(
        workdir, name, resolved[name], {
            key: outputs[source].key if source in road
            else artefact.digest(pathlib.Path(source))
            for key, source in step.inputs.items()})
    if only and name != only:
      continue
    if hosts.agree(output.is_done()):
      hosts.say(f"[{name}] finished before, nothing changed")
      continue
    for source in step.inputs.values():
      if source in road and not hosts.agree(outputs[source].is_done()):
        raise errors.ConfigError(
            f"Stage {name!r} needs {source!r}, which has not finished with "
            f"this config; run it first (--stage={source}), or leave --stage "
            "out.")
    with (artefact.alone(workdir, name) if hosts.first()
          else contextlib.nullcontext()):
      _run_step(step, output, {
          key: workdir / source if source in road else pathlib.Path(source)
          for key, source in step.inputs.items()})


def resolve(step: Step) -> dict[str, Any]:
  """All that a step depends on: its section, and the preset's every size.

  A section's `model_fields` says which of the model's fields matter to it;
  adapters matter by their content; `RUNNING` does not matter.
  """
  values = step.config.to_dict()
  if "train" in values:
    values["train"] = {name: value for name, value in (
        values["train"] | RUNNING).items() if name not in DROPPED}
  for section in (values, values.get("model", {})):
    if section.get("adapters"):
      section["adapters"] = adapters.digests(section["adapters"])
  if step.stage == "source":  # of which the file may change
    values["layout"] = dataclasses.asdict(catalogue.find(values["dataset"]))
  if "model" in values:
    for count in values.get("frame_buckets") or ():  # each must be possible
      models.resolve(values["model"] | {
          "kw": values["model"].get("kw", {}) | {"frames": count}})
    sizes = models.resolve(values["model"])
    fields = values.get("model_fields", sizes)
    values["model"]["sizes"] = {name: sizes[name] for name in fields}
  return values


def _run_step(step: Step, output: artefact.Artefact,
              inputs: dict[str, pathlib.Path]) -> None:
  from dreamgen_jax import hosts, runtime

  if hosts.first():
    for line in output.changes():
      hosts.say(f"[{step.name}] runs again, {line}")
    aside = output.prepare()
    if aside:
      hosts.say(f"[{step.name}] the former result is now {aside.name}")
  hosts.barrier()
  hosts.say(f"[{step.name}] starts")
  begin = time.monotonic()
  stage = importlib.import_module(f"dreamgen_jax.stages.{step.stage}")
  metrics = {}
  if hosts.first() or not getattr(stage, "ALONE", False):
    metrics = stage.run(step.config, inputs, output.folder)
  seconds = time.monotonic() - begin
  hosts.barrier()
  if hosts.first():
    output.finish(seconds, metrics, runtime.versions())
  hosts.barrier()
  hosts.say(f"[{step.name}] finished in {seconds:.0f} s")
