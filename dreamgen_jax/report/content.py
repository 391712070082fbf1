"""What a report shows: plain records, read from a plain nested dict.

Everything but the videos' frames is JSON-able; every list may be empty, and an
empty section is left out of the page.
"""

import dataclasses
import types as python_types
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamgen_jax import errors, registry


@dataclasses.dataclass(frozen=True)
class Headline:
  """One number that a reader should leave with.

  Attributes:
    value: as shown, e.g. "62 %".
    label: what it is.
    note: what it is to be compared with.
  """

  value: str
  label: str
  note: str = ""


@dataclasses.dataclass(frozen=True)
class Stage:
  """One row of "What was run".

  Attributes:
    name: the step's name in the config.
    seconds: wall time.
    key: digest of the step's result.
    note: what it made, e.g. "240 dreams, 212 kept".
  """

  name: str
  seconds: float
  key: str = ""
  note: str = ""


@dataclasses.dataclass(frozen=True)
class Run:
  """What was run, where, with which versions.

  Attributes:
    command: the line that repeats the run.
    machine: e.g. "2 CPU cores, 8 GB".
    started: date and time.
    stages: in the order in which they ran.
    versions: package -> version.
    hashes: what -> digest (datasets, weights, ...).
    config: the resolved config, nested.
  """

  command: str = ""
  machine: str = ""
  started: str = ""
  stages: list[Stage] = dataclasses.field(default_factory=list)
  versions: dict[str, str] = dataclasses.field(default_factory=dict)
  hashes: dict[str, str] = dataclasses.field(default_factory=dict)
  config: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Series:
  """One line of a chart; values that are not finite leave a gap."""

  name: str
  x: list[float]
  y: list[float]


@dataclasses.dataclass(frozen=True)
class Curve:
  """One chart of lines, e.g. a training run's losses."""

  title: str
  series: list[Series]
  x_label: str = "step"
  y_label: str = "loss"
  log: bool = False
  caption: str = ""


@dataclasses.dataclass(frozen=True)
class Pane:
  """One moving picture of a clip: `frames` is uint8[f, h, w, 3]."""

  label: str
  frames: np.ndarray


@dataclasses.dataclass(frozen=True)
class Clip:
  """Videos shown side by side, frame by frame in step.

  Attributes:
    panes: e.g. "real" and "dreamed"; same height; short ones hold their last
      frame.
    hz: frames a second.
    instruction: what the robot was told.
    verb: the kind of behaviour.
    seed: what the dream or the trial was keyed by.
    note: e.g. "success" or a judge's score.
    novel: the behaviour was never demonstrated.
  """

  panes: list[Pane]
  hz: float
  instruction: str
  verb: str = ""
  seed: int | None = None
  note: str = ""
  novel: bool = False


@dataclasses.dataclass(frozen=True)
class Fit:
  """How well one action dimension is decoded on held-out episodes.

  `error` is the root mean square, in `unit`.
  """

  dimension: str
  r2: float
  error: float | None = None
  unit: str = ""


@dataclasses.dataclass(frozen=True)
class Trace:
  """One action dimension of one episode, per control step."""

  dimension: str
  true: list[float]
  decoded: list[float]
  spread: list[float] = dataclasses.field(default_factory=list)
  unit: str = ""


@dataclasses.dataclass(frozen=True)
class Labelled:
  """One held-out episode; `hz` is the control rate."""

  title: str
  hz: float
  traces: list[Trace]


@dataclasses.dataclass(frozen=True)
class Labels:
  """Decoded actions against true ones."""

  fits: list[Fit] = dataclasses.field(default_factory=list)
  episodes: list[Labelled] = dataclasses.field(default_factory=list)
  note: str = ""


@dataclasses.dataclass(frozen=True)
class Policy:
  """One policy's trials.

  Attributes:
    name: e.g. "neural only".
    trials: verb -> success of every trial, in the order of Success.seeds.
    note: what it was trained on.
  """

  name: str
  trials: dict[str, list[bool]]
  note: str = ""


@dataclasses.dataclass(frozen=True)
class Success:
  """Success rates in the simulator.

  Attributes:
    policies: in the order of the table's columns.
    novel: verbs that nobody demonstrated.
    seeds: of the trials, the same for every policy and verb.
    note: how success is decided.
  """

  policies: list[Policy] = dataclasses.field(default_factory=list)
  novel: list[str] = dataclasses.field(default_factory=list)
  seeds: list[int] = dataclasses.field(default_factory=list)
  note: str = ""

  @property
  def verbs(self) -> list[str]:
    """Demonstrated verbs first, each group in the order of the trials."""
    seen = list(dict.fromkeys(
        verb for policy in self.policies for verb in policy.trials))
    return sorted(seen, key=lambda verb: verb in self.novel)


@dataclasses.dataclass(frozen=True)
class Honesty:
  """What a reader must know before believing the numbers.

  Attributes:
    weakest: what falls short of its mark on the road, in a few sentences.
    notes: further limits, one sentence each.
  """

  weakest: str = ""
  notes: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Report:
  """The whole page."""

  title: str
  subtitle: str = ""
  headlines: list[Headline] = dataclasses.field(default_factory=list)
  success: Success = dataclasses.field(default_factory=Success)
  dreams: list[Clip] = dataclasses.field(default_factory=list)
  dreams_note: str = ""
  labels: Labels = dataclasses.field(default_factory=Labels)
  evaluations: list[Clip] = dataclasses.field(default_factory=list)
  honesty: Honesty = dataclasses.field(default_factory=Honesty)
  curves: list[Curve] = dataclasses.field(default_factory=list)
  run: Run = dataclasses.field(default_factory=Run)


def read(value: Mapping[str, Any]) -> Report:
  """A nested dict -> Report; dataclasses inside it are taken as they are.

  Raises:
    DataError: a key that the page does not know, one that is missing, or what
      `check` finds.
  """
  report = _record(Report, value, "report")
  check(report)
  return report


def check(report: Report) -> None:
  """Checks what a page cannot show otherwise.

  Raises:
    DataError: lists of unequal length, frames that are not uint8[f, h, w, 3],
      or panes of unequal height.
  """
  for clip in (*report.dreams, *report.evaluations):
    _check_clip(clip)
  for curve in report.curves:
    for line in curve.series:
      _check_lengths(f"{curve.title!r}, {line.name!r}", line.x, line.y)
  for episode in report.labels.episodes:
    for trace in episode.traces:
      _check_lengths(f"{episode.title!r}, {trace.dimension!r}", trace.true,
                     trace.decoded,
                     trace.spread if len(trace.spread) else trace.true)


def _record(kind: Any, value: Any, where: str) -> Any:
  if isinstance(value, kind):
    return value
  if not isinstance(value, Mapping):
    raise errors.DataError(
        f"{where} must be a {kind.__name__} or a dict of its fields, not "
        f"{type(value).__name__}."
    )
  fields = {field.name: field for field in dataclasses.fields(kind)}
  hints = typing.get_type_hints(kind)
  for name in value:
    if name not in fields:
      raise errors.DataError(
          f"{where} has no field {name!r}; have: {', '.join(fields)}."
          + registry.nearest(str(name), list(fields))
      )
  for name, field in fields.items():
    if (name not in value and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING):
      raise errors.DataError(f"{where} lacks {name!r}.")
  return kind(**{
      name: _value(hints[name], inner, f"{where}.{name}")
      for name, inner in value.items()
  })


def _value(hint: Any, value: Any, where: str) -> Any:
  origin, inner = typing.get_origin(hint), typing.get_args(hint)
  if origin is list:
    items = value.tolist() if isinstance(value, np.ndarray) else value
    return [_value(inner[0], item, f"{where}[{index}]")
            for index, item in enumerate(items)]
  if origin is dict:
    return {str(key): _value(inner[1], item, f"{where}.{key}")
            for key, item in value.items()}
  if origin is python_types.UnionType:
    return None if value is None else _value(inner[0], value, where)
  if dataclasses.is_dataclass(hint):
    return _record(hint, value, where)
  if hint in (float, int, bool, str):
    return hint(value)
  return value


def _check_clip(clip: Clip) -> None:
  heights = set()
  for pane in clip.panes:
    frames = np.asarray(pane.frames)
    if (frames.dtype != np.uint8 or frames.ndim != 4 or not frames.size
        or frames.shape[-1] != 3):
      raise errors.DataError(
          f"Pane {pane.label!r} of {clip.instruction!r} must be uint8[f, h, w, "
          f"3], not {frames.dtype}{list(frames.shape)}."
      )
    heights.add(frames.shape[1])
  if len(heights) != 1:
    raise errors.DataError(
        f"The panes of {clip.instruction!r} must be of one height, not "
        f"{sorted(heights)}."
    )


def _check_lengths(where: str, *lists: list[float]) -> None:
  if len({len(values) for values in lists}) > 1:
    raise errors.DataError(
        f"{where}: lists of unequal length: "
        f"{', '.join(str(len(values)) for values in lists)}."
    )
