"""How somebody else's recordings lie on disk, in the words of an embodiment.

A `Layout` says which features hold what, and in which units, rotations and
gripper convention; the embodiment says what is wanted, and the conversion
follows. It is plain data: a file that exports DATASET registers a dataset.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dreamgen_jax import errors, registry, types
from dreamgen_jax.data import dataset

_PATH = re.compile(r"(?P<path>[^\[\]]+)(\[(?P<entries>[\d:,\s]+)\])?")


@dataclasses.dataclass(frozen=True)
class Column:
  """Numbers of a recording, and what they mean there.

  Attributes:
    path: feature of the steps, or of the episode; entries of the flattened
      value in brackets: "observation/state[0:3]", "pose[3,7,11]".
    unit: "m", "cm", "mm", "rad" or "deg"; "" is the key's own.
    rotation: see `orientation`; "" is the key's own.
    gripper: what 1 means, "open" or "closed", 0 being the other; values are
      clipped to [0, 1]. "" is the key's own.
    scale, offset: x * scale + offset comes before all else.
    over_time: "" as it is; "settle": what is neither open nor closed takes the
      value that it comes to; "command": +1 does what `gripper` says, -1 the
      opposite, 0 keeps it; "difference": the change until the next step,
      of a `rotation` in SO(3), as the fixed frame sees it; "next": the next
      step's value. The last step's is unknown in these two.
  """

  path: str
  unit: str = ""
  rotation: str = ""
  gripper: str = ""
  scale: float = 1.0
  offset: float = 0.0
  over_time: str = ""

  @property
  def feature(self) -> str:
    """The path without the entries."""
    return self._parsed()["path"].strip()

  def entries(self, size: int) -> list[int]:
    """Which of `size` numbers are taken.

    Raises:
      DataError: there are no such entries.
    """
    text = self._parsed()["entries"]
    if text is None:
      return list(range(size))
    found: list[int] = []
    for part in text.split(","):
      begin, colon, end = part.strip().partition(":")
      found += (range(int(begin or 0), int(end or size)) if colon
                else [int(begin)])
    if not found or max(found) >= size:
      raise errors.DataError(
          f"{self.path!r} takes entries that are not there: the feature has "
          f"{size} numbers.")
    return found

  def _parsed(self) -> re.Match[str]:
    found = _PATH.fullmatch(self.path)
    if not found:
      raise errors.DataError(
          f"The path {self.path!r} cannot be read; write a feature's path, and "
          "entries in brackets, such as 'observation/state[0:3,6]'.")
    return found


@dataclasses.dataclass(frozen=True)
class Idle:
  """When a robot counts as idle: such stretches are cut out.

  Attributes:
    below: the largest change per step of any number of the action's (relative
      keys: value; absolute ones: difference), in its unit; grippers that
      switch are never idle.
    seconds: shorter stretches stay.
  """

  below: float
  seconds: float = 1.0


Columns = str | Column | tuple[str | Column, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
  """A dataset's features, named by an embodiment's keys.

  Attributes:
    embodiment: whose keys and cameras the recordings are to fill.
    state: key -> path, `Column`, or several that are put one after another;
      {} where no state is recorded.
    action: the same for each key of the action; {} where there is none.
    cameras: the embodiment's camera -> path of an image per step.
    instruction: paths of sentences; of several that are not empty, each
      episode shows the one that its content decides.
    hz: of the steps; None is the embodiment's control rate.
    home: where the dataset lies unless a folder is given.
    steps: the feature that holds the steps.
    splits: TFDS splits to read; () is all.
    validation: share of the episodes that are kept for validation.
    success: path of what says whether an episode succeeded: a number (that of
      the last step), or a text that `success_pattern`, a regular expression,
      must be found in.
    only_success: leave others out.
    idle: stretches to cut out; None keeps all.
    timestamp: path of each step's time; "" where there is none.
    source_id: path of a text that names an episode, for the record.
    weight: how often it is drawn in a mixture, against others.
  """

  embodiment: types.Embodiment
  state: Mapping[str, Columns]
  action: Mapping[str, Columns]
  cameras: Mapping[str, str]
  instruction: tuple[str, ...] = ("language_instruction",)
  hz: float | None = None
  home: str = ""
  steps: str = "steps"
  splits: tuple[str, ...] = ()
  validation: float = 0.05
  success: str = ""
  success_pattern: str = ""
  only_success: bool = False
  idle: Idle | None = None
  timestamp: str | Column = ""
  source_id: str = ""
  weight: float = 1.0

  def __post_init__(self):
    robot = self.embodiment
    if isinstance(self.instruction, str):
      object.__setattr__(self, "instruction", (self.instruction,))
    object.__setattr__(self, "embodiment", dataclasses.replace(
        robot, cameras={camera: role for camera, role in robot.cameras.items()
                        if camera in self.cameras},
        clock=types.Clock(*[self.hz or robot.clock.control_hz] * 2)))
    for kind in ("state", "action"):
      object.__setattr__(self, kind, _named(
          kind, getattr(robot, kind), getattr(self, kind)))
    unknown = [name for name in self.cameras if name not in robot.cameras]
    if unknown or not self.cameras:
      raise errors.DataError(
          f"The layout has the cameras {list(self.cameras)}; {robot.name!r} "
          f"has {list(robot.cameras)}."
          + registry.nearest("".join(unknown), list(robot.cameras)))

  def columns(self, kind: str) -> dict[str, tuple[Column, ...]]:
    """Key -> columns of the "state" or "action"."""
    return dict(getattr(self, kind))

  def to_json(self) -> dict[str, Any]:
    """Plain values."""
    return json.loads(json.dumps(dataclasses.asdict(self)))

  @classmethod
  def from_json(cls, value: Mapping[str, Any]) -> "Layout":
    """Inverse of `to_json`."""
    def columns(each):
      return {name: tuple(Column(**column) for column in value)
              for name, value in each.items()}

    idle, time = value["idle"], value["timestamp"]
    return cls(**{
        **value,
        "embodiment": dataset.embodiment_from_dict(value["embodiment"]),
        "state": columns(value["state"]), "action": columns(value["action"]),
        "instruction": tuple(value["instruction"]),
        "splits": tuple(value["splits"]),
        "idle": idle and Idle(**idle),
        "timestamp": Column(**time) if isinstance(time, dict) else time})


@dataclasses.dataclass(frozen=True)
class Native:
  """A dataset that this package wrote, which needs no layout.

  Attributes:
    about: what it holds.
  """

  about: str


def _named(kind: str, keys: Sequence[types.Key],
           given: Mapping[str, Columns]) -> dict[str, tuple[Column, ...]]:
  """Key -> columns, in the embodiment's order; {} where nothing is given."""
  wanted = [key.name for key in keys]
  for name in given:
    if name not in wanted:
      raise errors.DataError(
          f"The {kind} has no key {name!r}; the embodiment has: "
          f"{', '.join(wanted)}." + registry.nearest(name, wanted))
  missing = [name for name in wanted if name not in given]
  if given and missing:
    raise errors.DataError(
        f"The layout does not say where the {kind} {missing[0]!r} lies; give "
        f"a path for each of: {', '.join(wanted)}.")
  return {
      name: tuple(column if isinstance(column, Column) else Column(column)
                  for column in (value if isinstance(value, tuple | list)
                                 else (value,)))
      for name in wanted if name in given for value in [given[name]]}
