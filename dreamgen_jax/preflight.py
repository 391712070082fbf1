"""Looks for what would stop a campaign, within a minute, before it starts.

  python -m dreamgen_jax.preflight --config=FILE.py[:arg] --workdir=DIR
      [--config.some.key=value ...]

On several hosts, start it on each, as the campaign itself. It checks the
devices and meshes, the links between them, the workdir's disk (and that all
hosts share it), datasets, weights, and that adapters reach the model's output.
"""

import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from dreamgen_jax import errors, options, storage

HELP = {"config": "config file of the campaign",
        "workdir": "folder that will keep its results"}
PROBE_BYTES = 64 << 20


@options.program(__doc__, HELP, ("config", "workdir"))
def main(given: Any, overrides: Any) -> None:
  """Runs the program."""
  config = options.load(given.config, overrides)
  from dreamgen_jax import hosts, runtime  # late: mistakes show before JAX

  runtime.start()
  begin, wrong = time.monotonic(), []
  for name, check in CHECKS.items():
    since = time.monotonic()
    try:
      found = list(check(config, pathlib.Path(given.workdir)))
    except errors.UserError as error:
      wrong.append(name)
      print(f"{name:12} FAILS on host {hosts.index()}: {error}", flush=True)
      found = []
    for line in found:
      hosts.say(f"{name:12} {line}")
    hosts.say(f"{name:12} {time.monotonic() - since:.1f} s")
  hosts.barrier()
  hosts.say(f"{len(CHECKS)} checks: {time.monotonic() - begin:.0f} s")
  if wrong:
    raise errors.UserError(f"Not ready: {', '.join(wrong)}.")


def devices(config: Any, workdir: pathlib.Path) -> Iterator[str]:
  """What there is, and that every training's mesh and batch divide over it."""
  del workdir
  from dreamgen_jax import hosts, runtime, sharding
  from dreamgen_jax.stages import train

  yield f"{runtime.machine()}, {hosts.count()} hosts"
  for name, section in _sections(config, "train"):
    mesh = sharding.mesh(dict(section.train.mesh))
    share = train.share(section.train)
    rows = mesh.shape["data"] * mesh.shape["fsdp"]
    if section.train.batch_size % rows:
      raise errors.ConfigError(
          f"config.{name}.train.batch_size = {section.train.batch_size} does "
          f"not divide over data*fsdp = {rows}; take a multiple of {rows}, or "
          "another mesh.")
    yield (f"{name}: {dict(mesh.shape)}, "
           f"{section.train.batch_size // share['hosts']} samples a host")


def collectives(config: Any, workdir: pathlib.Path) -> Iterator[str]:
  """That every device answers, and how fast all sum up 64 MiB each."""
  del config, workdir
  import jax
  import jax.numpy as jnp
  import numpy as np

  count, per = jax.device_count(), PROBE_BYTES // 4
  mesh = jax.make_mesh((count,), ("all",),
                       axis_types=(jax.sharding.AxisType.Auto,))
  split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("all"))
  whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  x = jax.make_array_from_callback(
      (count, per), split,
      lambda index: np.full((1, per), index[0].start or 0, np.float32))
  add = jax.jit(lambda x: jnp.sum(x, axis=0), out_shardings=whole)
  found = np.asarray(add(x)[:1])[0]
  if found != count * (count - 1) / 2:
    raise errors.UserError(
        f"The sum over {count} devices is {found}, not "
        f"{count * (count - 1) / 2}: a device or link is broken.")
  since = time.monotonic()
  for _ in range(3):
    add(x).block_until_ready()
  seconds = (time.monotonic() - since) / 3
  yield (f"a sum of {PROBE_BYTES >> 20} MiB over {count} devices: "
         f"{1e3 * seconds:.1f} ms")


def disk(config: Any, workdir: pathlib.Path) -> Iterator[str]:
  """That every host can write, read back and rename, in one shared folder."""
  from dreamgen_jax import hosts
  from dreamgen_jax.stages import artefact

  if hosts.first():
    artefact.claim(workdir, config.to_dict())
  hosts.barrier()
  if not workdir.is_dir():
    raise errors.StorageError(
        f"Workdir {str(workdir)!r} is not on this host; all hosts must share "
        "one disk.")
  probe, data = workdir / f".preflight.{hosts.index()}", bytes(PROBE_BYTES)
  with storage.explained(workdir):
    try:
      since = time.monotonic()
      probe.with_suffix(".partial").write_bytes(data)
      probe.with_suffix(".partial").replace(probe)
      written, since = time.monotonic() - since, time.monotonic()
      if probe.read_bytes() != data:
        raise errors.StorageError(f"{probe} does not read as it was written.")
      read = time.monotonic() - since
      hosts.barrier()
      seen = len(list(workdir.glob(".preflight.*")))
      hosts.barrier()
    finally:
      probe.unlink(missing_ok=True)
  if seen != hosts.count():
    raise errors.StorageError(
        f"Host {hosts.index()} sees the files of {seen} of {hosts.count()} "
        f"hosts in {str(workdir)!r}; all hosts must share one disk.")
  yield (f"writes {PROBE_BYTES / written / 1e6:.0f} MB/s, reads "
         f"{PROBE_BYTES / read / 1e6:.0f} MB/s, "
         f"{shutil.disk_usage(workdir).free / 1e9:.0f} GB free")


def datasets(config: Any, workdir: pathlib.Path) -> Iterator[str]:
  """That every dataset that the config names opens, and an episode decodes."""
  del workdir
  from dreamgen_jax.data import catalogue
  from dreamgen_jax.stages import pipeline

  road = pipeline.steps(config)
  given = sorted({source for step in road.values()
                  for source in step.inputs.values() if source not in road})
  for path in given:
    if not (pathlib.Path(path) / "data").is_dir():
      continue  # a checkpoint
    found = catalogue.open(pathlib.Path(path) / "data")
    episode = found.episode(len(found) - 1)
    frames = next(iter(episode.video.values()))
    yield (f"{path}: {len(found)} episodes, cameras "
           f"{', '.join(episode.video)}, the last is {frames.shape}")
  if not given:
    yield "the config names none; all are made on the way"


def weights(config: Any, workdir: pathlib.Path) -> Iterator[str]:
  """That every folder of released weights is there."""
  del workdir
  from dreamgen_jax import registry
  from dreamgen_jax.stages import models

  for name, section in _sections(config, "model"):
    models.resolve(section.model)
    source = section.model.get("source")
    if not source:
      continue
    folder = pathlib.Path(source)
    if section.model.name in registry.names("world_models"):
      folder = registry.find(
          "world_models", section.model.name).locate(source)
    if not folder.exists():
      raise errors.CheckpointError(
          f"config.{name}.model.source = {source!r} is not there.")
    size = sum(file.stat().st_size for file in folder.rglob("*")
               if file.is_file())
    yield f"{name}: {folder}, {size / 1e9:.2f} GB"


def adapters(config: Any, workdir: pathlib.Path) -> Iterator[str]:
  """That adapters match layers at full size, and change what a model says.

  Numbers come from the family's nano preset: the same classes and names.
  """
  del workdir
  import jax

  from dreamgen_jax import lora, registry
  from dreamgen_jax.stages import models

  for name, section in _sections(config, "lora"):
    if section.stage != "finetune":
      continue
    settings = lora.Config(**section.lora)
    full = models.build("world_models", section.model)
    shapes = jax.eval_shape(full.init, jax.random.key(0))
    module = registry.find("world_models", section.model.name)
    nano = module.Model(module.PRESETS["nano"])
    for expert in full.config.experts:
      count = len(lora.targets(shapes[expert], settings))
      yield (f"{name}: rank {settings.rank} on {count} layers of {expert}; "
             f"{_effect(nano, nano.config.experts[0], settings)}")


def _effect(model: Any, expert: str, settings: Any) -> str:
  """Runs a small model with fresh adapters, and with changed ones."""
  import jax
  import jax.numpy as jnp
  import numpy as np

  from dreamgen_jax import lora

  rng, draw = jax.random.key(0, impl="rbg"), np.random.default_rng(0)
  params = jax.tree.map(  # fresh ones end in zeros, which nothing passes
      lambda leaf: 0.1 * draw.standard_normal(leaf.shape, np.float32),
      jax.eval_shape(model.init, rng)[expert])
  fresh = lora.init(rng, params, settings)
  batch = jax.tree.map(
      lambda leaf: draw.standard_normal(leaf.shape).astype(leaf.dtype),
      model.example(1))
  run = lora.adapted(
      lambda base: model.loss({expert: base}, rng, batch)[0], settings)

  @jax.jit
  def measure(params, tree):
    loss, slope = jax.value_and_grad(lambda tree: run(params, tree))(tree)
    norms = [jnp.abs(leaf).max() for path, leaf in
             jax.tree_util.tree_leaves_with_path(slope)
             if path[-1].key == "lora_b"]
    return loss, jnp.array(norms), model.loss(
        {expert: params}, rng, batch)[0]

  loss, norms, plain = measure(params, fresh)
  changed, _, _ = measure(
      params, jax.tree.map(lambda leaf: leaf + 0.01, fresh))
  reached = int((norms > 0).sum())
  if abs(float(loss - plain)) > 1e-5 * abs(float(plain)):
    raise errors.ConfigError("Fresh adapters change the model's output.")
  if reached < len(norms) or float(changed) == float(loss):
    raise errors.ConfigError(
        f"Only {reached} of {len(norms)} adapters reach the loss; check "
        "config.<stage>.lora.match.")
  return f"at nano size {reached} of {len(norms)} reach the loss"


def _sections(config: Any, key: str) -> list[tuple[str, Any]]:
  return [(name, config[name]) for name in options.stages(config)
          if config[name].get(key)]



CHECKS: dict[str, Callable[[Any, pathlib.Path], Iterator[str]]] = {
    "devices": devices, "collectives": collectives, "disk": disk,
    "datasets": datasets, "weights": weights, "adapters": adapters}


if __name__ == "__main__":
  sys.exit(main())
