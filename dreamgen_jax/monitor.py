"""Seeing a training: history, speed, progress, profiles, and who listens.

  history.jsonl  what it learns; equal for interrupted and uninterrupted runs
  speed.jsonl    how it runs: times, throughput, MFU, waiting, memory
  tensorboard/   the same for TensorBoard, if asked for; W&B likewise
  profile/       traces of the steps asked for (xprof, TensorBoard)
Host 0 writes; the others only count.
"""

import collections
import contextlib
import contextvars
import dataclasses
import importlib
import pathlib
import resource
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import jax

from dreamgen_jax import errors, hosts, metrics

# Dense bf16 FLOP/s of one device, as their makers publish them.
PEAKS = {"TPU v4": 275e12, "TPU v5 lite": 197e12, "TPU v5": 459e12,
         "TPU v5p": 459e12, "TPU v6 lite": 918e12, "TPU7x": 1153.5e12,
         "NVIDIA A100": 312e12, "NVIDIA H100": 989e12, "NVIDIA H200": 989e12}


@dataclasses.dataclass(frozen=True)
class Wishes:
  """What a user wants to see of a run besides the files above.

  Attributes:
    tensorboard: write event files, too.
    wandb: project of Weights & Biases to log to, or "".
    profile: (first, last) step of a trace, or None.
  """

  tensorboard: bool = False
  wandb: str = ""
  profile: tuple[int, int] | None = None

  def check(self) -> None:
    """Raises ConfigError if what is wished for is not installed."""
    for wished, module in ((self.tensorboard, "tensorboardX"),
                           (self.wandb, "wandb")):
      if wished:
        _extra(module)


NOTHING = Wishes()
_wishes = contextvars.ContextVar("wishes", default=NOTHING)


@contextlib.contextmanager
def wishing(wishes: Wishes) -> Iterator[None]:
  """All trainings inside are watched as wished."""
  before = _wishes.set(wishes)
  try:
    yield
  finally:
    _wishes.reset(before)


class Listener(Protocol):
  """Where scalars go besides the files."""

  def __call__(self, step: int, scalars: Mapping[str, float]) -> None:
    """Shows the scalars of a step."""

  def close(self) -> None:
    """Writes what is held back."""


class _TensorBoard:

  def __init__(self, folder: pathlib.Path):
    self._writer = _extra("tensorboardX").SummaryWriter(str(folder))
    self.close = self._writer.close

  def __call__(self, step: int, scalars: Mapping[str, float]) -> None:
    for name, value in scalars.items():
      self._writer.add_scalar(name, value, step)


class _Wandb:

  def __init__(self, project: str, folder: pathlib.Path, name: str):
    # The same run goes on after a restart.
    self._run = _extra("wandb").init(
        project=project, name=name, dir=str(folder), resume="allow",
        id="-".join(folder.absolute().parts[-2:]))
    self.close = self._run.finish

  def __call__(self, step: int, scalars: Mapping[str, float]) -> None:
    self._run.log(dict(scalars), step=step)


class Monitor:
  """Watches one training; its files lie in the training's folder."""

  def __init__(self, folder: pathlib.Path, name: str, start: int, total: int):
    """`start` steps of `total` are done."""
    self._wishes, self._folder = _wishes.get(), folder
    self.history = metrics.History(folder / "history.jsonl", start)
    self._speed = metrics.History(folder / "speed.jsonl", start)
    self._progress = metrics.Progress(name, total, "step", start)
    self._listeners: list[Listener] = []
    if hosts.first() and self._wishes.tensorboard:
      self._listeners.append(_TensorBoard(folder / "tensorboard"))
    if hosts.first() and self._wishes.wandb:
      self._listeners.append(_Wandb(self._wishes.wandb, folder, name))
    self._tracing = False
    self._work: dict[int, Any] = {}
    self._restart(start)

  def __enter__(self) -> "Monitor":
    return self

  def __exit__(self, *unused: Any) -> None:
    self._trace(False)
    for listener in self._listeners:
      listener.close()

  @contextlib.contextmanager
  def spending(self, what: str, during: Any = None) -> Iterator[None]:
    """Time for something that is not the step: input, evaluate, checkpoint.

    It costs nothing if `during`, a result that devices are working at, is not
    there even afterwards.
    """
    begin = time.monotonic()
    try:
      yield
    finally:
      if during is None or during.is_ready():
        self._spent[what] += time.monotonic() - begin

  def begin(self, step: int, work: float | None) -> None:
    """The step is about to be dispatched; `work` in FLOPs, if it is known."""
    self._work[step] = work
    first, last = self._wishes.profile or (0, -1)
    self._trace(first <= step <= last)

  def scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """What was measured at a step."""
    self.history.append(step, scalars)
    self._tell(step, scalars)
    if "loss" in scalars:
      self._progress.update(step, f"loss {scalars['loss']:.4f}")

  def compiled(self, step: int) -> None:
    """The first step is done: time counts from here."""
    self._record(step, {"compile_seconds": time.monotonic() - self._begin})
    self._restart(step)

  def speed(self, step: int, samples: int) -> None:
    """The step is done; a row about those since the last call.

    Args:
      step: the last of them.
      samples: of a batch, over all hosts.
    """
    steps, spent = step - self._since, self._spent
    work = [self._work.pop(i) for i in sorted(self._work) if i <= step]
    if not steps:
      return
    apart = spent["evaluate"] + spent["checkpoint"]
    seconds = max(time.monotonic() - self._begin - apart, 1e-9)
    row = {"seconds_per_step": seconds / steps,
           "samples_per_second": samples * steps / seconds,
           "input_wait": spent["input"] / seconds,
           "evaluate_seconds": spent["evaluate"],
           "checkpoint_seconds": spent["checkpoint"],
           "memory_bytes": memory()}
    if one := all(work[-steps:]) and peak():
      row["flops_per_second"] = sum(work[-steps:]) / seconds
      row["mfu"] = row["flops_per_second"] / (one * jax.device_count())
    self._record(step, row)
    self._restart(step)

  def _record(self, step: int, row: Mapping[str, float]) -> None:
    self._speed.append(step, row)
    self._tell(step, {f"speed/{name}": value for name, value in row.items()})

  def _tell(self, step: int, scalars: Mapping[str, float]) -> None:
    for listener in self._listeners:
      listener(step, scalars)

  def _restart(self, step: int) -> None:
    self._begin, self._since = time.monotonic(), step
    self._spent: dict[str, float] = collections.defaultdict(float)

  def _trace(self, wanted: bool) -> None:
    if wanted and not self._tracing:
      jax.profiler.start_trace(str(self._folder / "profile"))
    if self._tracing and not wanted:
      jax.profiler.stop_trace()
      hosts.say(f"The trace is in {self._folder / 'profile'}")
    self._tracing = wanted


def peak() -> float | None:
  """Dense bf16 FLOP/s of one of the devices; None if unknown."""
  kind = jax.devices()[0].device_kind
  found = [name for name in PEAKS if kind.startswith(name)]
  return PEAKS[max(found, key=len)] if found else None


def memory() -> int:
  """Most bytes in use at once so far: on the first device, else by us."""
  stats = jax.local_devices()[0].memory_stats() or {}
  return stats.get("peak_bytes_in_use") or 1024 * resource.getrusage(
      resource.RUSAGE_SELF).ru_maxrss


def profile_steps(text: str) -> tuple[int, int] | None:
  """"10:13" -> steps 10 to 13; "10" -> that one; "" -> none.

  Raises:
    ConfigError: it is neither.
  """
  if not text:
    return None
  first, _, last = text.partition(":")
  try:
    found = int(first), int(last or first)
  except ValueError:
    found = (0, 0)
  if not 0 < found[0] <= found[1]:
    raise errors.ConfigError(
        f"--profile_steps={text} names no steps; write one (10), or the first "
        "and the last (10:13).")
  return found


def _extra(module: str) -> Any:
  """A module that only those install who want it."""
  try:
    return importlib.import_module(module)
  except ImportError as error:
    extra = {"tensorboardX": "tensorboard"}.get(module, module)
    raise errors.ConfigError(
        f"{module} is not installed; pip install 'dreamgen_jax[{extra}]'."
    ) from error
