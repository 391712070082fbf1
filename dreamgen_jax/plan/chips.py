"""What TPUs can do, and named topologies of them without a TPU.

Peaks, HBM and links are Google's published figures of each generation (dense
bfloat16; a link is one direction of one axis). Clocks are those by which
2 x MXUs x side^2 x clock equals the peak, so that cycles and FLOPs agree.
"""

import dataclasses
import importlib.util
import os
import re
from collections.abc import Sequence
from typing import Any

from dreamgen_jax import errors, registry, tpu_flags

GIB = 2.0**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One chip of a generation.

  Attributes:
    peak: bfloat16 FLOP/s.
    clock: cycles a second.
    hbm: bytes that programs can use.
    bandwidth: of the HBM, bytes/s.
    link: bytes/s to one neighbour.
    closes: an axis of a multiple of so many chips is a ring.
    pci: bytes/s to the host's memory, the chip's share.
    price: US dollars an hour on demand, the list price of us-central in 2025.
  """

  peak: float
  clock: float
  hbm: float
  bandwidth: float
  link: float
  closes: int
  pci: float
  price: float


CHIPS = {
    "v4": Chip(275e12, 1.05e9, 30.75 * GIB, 1228e9, 45e9, 4, 8e9, 3.22),
    "v5e": Chip(197e12, 1.50e9, 15.75 * GIB, 819e9, 45e9, 16, 8e9, 1.20),
    "v5p": Chip(459e12, 1.75e9, 95.74 * GIB, 2765e9, 90e9, 4, 16e9, 4.20),
    "v6e": Chip(918e12, 1.75e9, 31.25 * GIB, 1640e9, 90e9, 16, 16e9, 2.70),
}
# Bytes a second that a chip has to other slices (200 Gbit/s for four chips).
DCN = 6.25e9


@dataclasses.dataclass(frozen=True)
class Topology:
  """Chips of one generation, in one slice or several alike.

  Attributes:
    name: as given, e.g. "v5p:4x4x4" or "2xv5e:16x16".
    generation: of CHIPS.
    shape: chips of a slice along each axis.
    slices: how many.
    devices: compile-only JAX devices.
  """

  name: str
  generation: str
  shape: tuple[int, ...]
  slices: int
  devices: Sequence[Any]

  @property
  def chip(self) -> Chip:
    """What each one can do."""
    return CHIPS[self.generation]

  def ring(self, axis: int) -> bool:
    """Whether the chips along an axis close to a ring."""
    small = self.chip.closes == 4 and len(self.devices) < 64 * self.slices
    return self.shape[axis] % self.chip.closes == 0 and not small


def parse(name: str) -> tuple[int, str, tuple[int, ...]]:
  """"2xv5p:4x4x4" -> (2, "v5p", (4, 4, 4)).

  Raises:
    ConfigError: it is no topology, or of an unknown generation.
  """
  found = re.fullmatch(r"(?:(\d+)x)?(v\w+):(\d+(?:x\d+){1,2})", name)
  if not found:
    raise errors.ConfigError(
        f"{name!r} is no topology; write, for example, v5p:4x4x4, v6e:8x8, or "
        "2xv5e:16x16 for two slices.")
  slices, generation, shape = found.groups()
  if generation not in CHIPS:
    raise errors.ConfigError(
        f"Unknown TPU {generation!r}; have: {', '.join(CHIPS)}."
        + registry.nearest(generation, list(CHIPS)))
  return int(slices or 1), generation, tuple(map(int, shape.split("x")))


def prepare() -> None:
  """Lets the compiler run without a TPU; call before JAX is imported.

  Raises:
    ConfigError: libtpu is not installed.
  """
  if importlib.util.find_spec("libtpu") is None:
    raise errors.ConfigError(
        "libtpu, the TPU's compiler, is not installed, and no TPU is needed "
        "for it: pip install 'libtpu==0.0.42.*' (or dreamgen_jax[tpu]).")
  for key, value in dict(
      TPU_SKIP_MDS_QUERY="1", JAX_PLATFORMS="cpu",
      TPU_WORKER_HOSTNAMES="localhost", TPU_ACCELERATOR_TYPE="v5p-8",
      ALLOW_MULTIPLE_LIBTPU_LOAD="1").items():
    os.environ.setdefault(key, value)
  tpu_flags.add()


def topology(name: str) -> Topology:
  """The topology of that name; starts libtpu.

  Raises:
    ConfigError: see `parse`, or the compiler knows no such topology.
  """
  slices, generation, shape = parse(name)
  from jax.experimental import topologies  # brings libtpu

  mega = generation in ("v4", "v5p")  # two cores that act as one device
  try:
    found = topologies.get_topology_desc(
        platform="tpu", topology_name=name.split("x", 1)[-1] if slices > 1
        else name, chips_per_host_bounds=(2, 2, 1), num_slices=slices,
        chip_config_name="megacore" if mega else "default")
  except Exception as error:
    raise errors.ConfigError(
        f"The TPU's compiler knows no {name}: {error}") from error
  return Topology(name, generation, shape, slices, found.devices)
