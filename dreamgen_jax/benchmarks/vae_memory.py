"""Memory of Wan's video autoencoders, as their compiler plans it.

  python -m dreamgen_jax.benchmarks.vae_memory [--topology=v5e:2x4]
      [--presets=released,released_2_2] [--chunk=1] [--frames=81]
      [--height=480] [--width=832] [--dtype=float32]

Compiles encode and decode of one clip, whole, in chunks, and in chunks over
all chips of the topology, and runs nothing: no TPU is needed, only libtpu
(`pip install dreamgen_jax[tpu]`). Without libtpu it compiles for eight CPU
devices, whose figures are coarser.
"""

import dataclasses
import functools
import importlib.util
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies

from dreamgen_jax import errors, options, registry, sharding
from dreamgen_jax.world_models.wan import vae

OPTIONS = {
    "topology": ("v5e:2x4", "TPU generation and chips, as libtpu names them"),
    "presets": ("released,released_2_2", "which autoencoders"),
    "chunk": (1, "latent frames at a time"),
    "frames": (81, "of the clip; 1 plus a multiple of 4"),
    "height": (480, "of the clip, in pixels"),
    "width": (832, "of the clip, in pixels"),
    "dtype": ("float32", "of the computation"),
}
_GIB = 2**30
_UNITS = {"K": 2**10, "M": 2**20, "G": _GIB, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Row:
  """What one program needs on each chip, in GiB.

  Attributes:
    preset, network, way, chips: what was compiled.
    given, taken: arguments (weights and clip) and results.
    scratch: temporary buffers; None where the compiler refused.
    total: all of it at its peak, or what the compiler says is needed.
    fits: whether the compiler accepted it.
    seconds: it took to compile.
  """

  preset: str
  network: str
  way: str
  chips: int
  given: float | None
  taken: float | None
  scratch: float | None
  total: float
  fits: bool
  seconds: float


@options.program(__doc__, OPTIONS)
def main(given: Any) -> None:
  """Runs the program."""
  presets = given.presets.split(",")
  for name in presets:
    if name not in vae.PRESETS:
      raise errors.ConfigError(
          f"Unknown preset {name!r}." + registry.nearest(
              name, list(vae.PRESETS)))
  devices = _devices(given.topology)
  clip = (given.frames, given.height, given.width)
  print(f"One clip of {given.frames} x {given.height} x {given.width}, "
        f"{given.dtype}, for {devices[0].device_kind}; "
        f"chunks of {given.chunk}; GiB on each chip.")
  print(_line("preset", "network", "way", "chips", "weights+in", "out",
              "scratch", "peak", "fits", "compile s"), flush=True)
  ways = [("whole", None, devices[:1]), ("chunks", given.chunk, devices[:1]),
          ("chunks", given.chunk, devices)]
  for name in presets:
    config = dataclasses.replace(vae.PRESETS[name], dtype=given.dtype)
    for network in ("encode", "decode"):
      for way, chunk, chips in ways:
        row = measure(name, config, network, way, clip, chunk, chips)
        print(_show(row), flush=True)


def measure(preset: str, config: vae.VaeConfig, network: str, way: str,
            clip: tuple[int, int, int], chunk: int | None,
            devices: Sequence[Any]) -> Row:
  """Compiles "encode" or "decode" of one clip for these devices.

  Args:
    preset, way: names for the row.
    config: of the autoencoder.
    network: "encode" or "decode".
    clip: frames, height, width.
    chunk: latent frames at a time; None is the whole clip.
    devices: of which the clip's width is split over all.

  Raises:
    ConfigError: the clip does not divide into latents.
  """
  mesh = jax.sharding.Mesh(
      np.asarray(devices).reshape(1, 1, -1, 1), sharding.AXES,
      axis_types=(jax.sharding.AxisType.Auto,) * len(sharding.AXES))
  shape = {"encode": (1, *clip, 3),
           "decode": (1, *vae.latent_shape(config, *clip))}[network]
  function = functools.partial(
      getattr(vae, network), dataclasses.replace(config, chunk=chunk))
  params = jax.eval_shape(
      lambda key: vae.init(config, key), jax.random.key(0))
  side = {"encode": "encoder", "decode": "decoder"}[network]
  split = jax.sharding.NamedSharding(
      mesh, sharding.P(None, None, None, "context"
                       if shape[3] % len(devices) == 0 else None))
  whole = jax.sharding.NamedSharding(mesh, sharding.P())
  begin = time.perf_counter()
  with jax.set_mesh(mesh):
    step = jax.jit(function, in_shardings=(whole, split))
    lowered = step.lower({side: params[side]},
                         jax.ShapeDtypeStruct(shape, np.float32))
    row = functools.partial(Row, preset, network, way, len(devices))
    try:
      found = lowered.compile().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
      return row(None, None, None, _needed(error), False,
                 time.perf_counter() - begin)
  given, taken, scratch = (
      size / _GIB for size in (
          found.argument_size_in_bytes, found.output_size_in_bytes,
          found.temp_size_in_bytes))
  return row(given, taken, scratch, given + taken + scratch, True,
             time.perf_counter() - begin)


def _devices(topology: str) -> list[Any]:
  """Eight CPU devices, or the topology's chips where libtpu is installed."""
  if importlib.util.find_spec("libtpu") is None:
    jax.config.update("jax_num_cpu_devices", 8)
    return jax.devices("cpu")
  # Another process may be compiling; and there need be no TPU to ask.
  for name, value in (("ALLOW_MULTIPLE_LIBTPU_LOAD", "1"),
                      ("TPU_SKIP_MDS_QUERY", "1"),
                      ("TPU_WORKER_HOSTNAMES", "localhost")):
    os.environ.setdefault(name, value)
  try:
    found = topologies.get_topology_desc(topology, "tpu")
  except (jax.errors.JaxRuntimeError, ValueError) as error:
    raise errors.ConfigError(
        f"libtpu does not know the topology {topology!r}: {error}") from error
  return list(found.devices)


def _needed(error: Exception) -> float:
  """GiB that a program needs, by the compiler's message that it is too big.

  Raises:
    The error itself, where it is about something else.
  """
  used = re.search(
      r"Used ([\d.]+)([KMGT]) of|\(([\d.]+)([KMGT])\) exceeds", str(error))
  if not used:
    raise error
  size, unit = filter(None, used.groups())
  return float(size) * _UNITS[unit] / _GIB


def _show(row: Row) -> str:
  sizes = ("-" if size is None else f"{size:.2f}"
           for size in (row.given, row.taken, row.scratch, row.total))
  return _line(row.preset, row.network, row.way, row.chips, *sizes,
               "yes" if row.fits else "no", f"{row.seconds:.0f}")


def _line(*cells: Any) -> str:
  widths = (13, 8, 7, 6, 11, 7, 8, 8, 5, 10)
  return " ".join(f"{cell!s:<{width}}" if i < 3 else f"{cell!s:>{width}}"
                  for i, (cell, width) in enumerate(
                      zip(cells, widths, strict=True)))


if __name__ == "__main__":
  sys.exit(main())
