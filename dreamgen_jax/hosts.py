"""Several processes as one run: who joins, who does what, who waits.

On TPU VMs and GKE the processes find each other without flags; elsewhere
JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID tell them. They
share a workdir. A process alone is host 0 of 1, and nothing here costs it
anything.
"""

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypedDict

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from dreamgen_jax import errors, sharding

_ADDRESS = "JAX_COORDINATOR_ADDRESS"
_TOLD = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID",
         "heartbeat_timeout_seconds": "JAX_HEARTBEAT_TIMEOUT_SECONDS"}
_WAIT_SECONDS = 7 * 24 * 3600  # as long as the slowest host's share takes

_barriers = itertools.count()


class Team(TypedDict):
  """How `data.rlds.write` divides its work."""

  host: int
  hosts: int
  barrier: Callable[[], None]


def join() -> None:
  """Joins the run's other processes, once; before JAX looks for devices.

  Raises:
    ConfigError: the others cannot be found or do not answer.
  """
  if jax.distributed.is_initialized():
    return
  told = {name: int(os.environ[key]) for name, key in _TOLD.items()
          if key in os.environ}
  if _ADDRESS not in os.environ and not _on_tpu():
    return
  try:
    jax.distributed.initialize(**told)  # type: ignore[arg-type]
  except (ValueError, RuntimeError) as error:
    if _ADDRESS not in os.environ and jax.process_count() == 1:
      return  # a TPU of one host that is in no cluster, as in a notebook
    raise errors.ConfigError(
        f"The processes of this run cannot join ({_first_line(error)}); where "
        f"they are not found by themselves, set {_ADDRESS}=HOST:PORT, "
        "JAX_NUM_PROCESSES and JAX_PROCESS_ID for each.") from error


def index() -> int:
  """This process's number, from 0."""
  return jax.process_index() if jax.distributed.is_initialized() else 0


def count() -> int:
  """How many processes the run has; alone, no device is asked."""
  return jax.process_count() if jax.distributed.is_initialized() else 1


def first() -> bool:
  """Whether this is the one process that writes what there is one of."""
  return index() == 0


def say(text: str) -> None:
  """Prints a line, once."""
  if first():
    print(text, flush=True)


def barrier() -> None:
  """Waits until every process has come to the same call.

  Not a computation: devices and their time-outs do not know of it.
  """
  if count() > 1:
    multihost.get_barrier_sync_fn()(
        key=f"dreamgen_{next(_barriers)}", timeout_ms=_WAIT_SECONDS * 1000)


def team() -> Team:
  """The arguments of `data.rlds.write` that divide its work."""
  return Team(host=index(), hosts=count(), barrier=barrier)


def agree(value: bool) -> bool:
  """What host 0 says, on all hosts; each must ask."""
  if count() == 1:
    return value
  return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def every(value: bool) -> bool:
  """Whether all hosts say so; each must ask."""
  if count() == 1:
    return value
  return bool(np.all(multihost_utils.process_allgather(np.asarray(value))))


def local(tree: Any) -> Any:
  """A tree of global arrays as numpy arrays, whole on every host.

  Each host must ask. Alone, the tree as it is.
  """
  if count() == 1:
    return tree
  return multihost_utils.process_allgather(tree, tiled=True)


@contextlib.contextmanager
def locally(tree: Any) -> Iterator[Any]:
  """`local`, and inside each host computes for itself: no mesh spans them."""
  tree = local(tree)
  if count() == 1:
    yield tree
    return
  with jax.set_mesh(sharding.mesh({}, jax.local_devices()[:1])):
    yield tree


def share(mesh: jax.sharding.Mesh) -> tuple[int, int]:
  """(i, n): this process loads the i-th of n parts of every batch.

  Processes whose devices hold the same rows, as with context or tensor
  parallelism over several hosts, load the same part.

  Raises:
    ConfigError: rows are divided otherwise than hosts are.
  """
  return part(np.vectorize(lambda device: device.process_index)(mesh.devices),
              index())


def part(processes: np.ndarray, process: int) -> tuple[int, int]:
  """As `share`, of a mesh's process indices i64[data, fsdp, ...].

  Raises:
    ConfigError: see `share`.
  """
  rows = processes.reshape(processes.shape[0] * processes.shape[1], -1)
  held = {p: frozenset(np.flatnonzero((rows == p).any(axis=1)).tolist())
          for p in np.unique(processes).tolist()}
  parts = sorted(set(held.values()), key=min)
  if sum(map(len, parts)) > len(rows) or len({*map(len, parts)}) > 1:
    raise errors.ConfigError(
        f"config.mesh (data, fsdp, ...) = {processes.shape} lays the rows of a "
        f"batch across {len(held)} hosts unevenly; make data*fsdp a multiple "
        "or a divisor of the number of hosts.")
  return parts.index(held[process]), len(parts)


class Notice:
  """Whether this run was told to stop (SIGTERM) and should save now.

  Processes of one run agree on the step, by JAX's preemption service.
  """

  def __init__(self) -> None:
    self._told = False
    self._alone = (count() == 1 and threading.current_thread()
                   is threading.main_thread())

  def __enter__(self) -> "Notice":
    if self._alone:
      self._before = signal.signal(signal.SIGTERM, self._tell)
    return self

  def __exit__(self, *unused: Any) -> None:
    if self._alone:
      signal.signal(signal.SIGTERM, self._before)

  def _tell(self, *unused: Any) -> None:
    self._told = True

  def at(self, step: int) -> bool:
    """Every process must ask at every step."""
    if count() == 1:
      return self._told
    return multihost_utils.reached_preemption_sync_point(step)


def _on_tpu() -> bool:
  """Whether JAX found TPU chips, and the library that drives them."""
  return "TPU_ML_PLATFORM" in os.environ  # set by `import jax` if so


def _first_line(error: BaseException) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0]
