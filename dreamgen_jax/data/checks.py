"""What can be wrong with recordings; each find is named, counted, never silent.

What happens to a bad episode is the caller's choice: it is skipped, ends the
program, or is kept in spite of it.
"""

import collections
import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np

from dreamgen_jax import errors, registry, types

# Kind -> what it means; the first of these that an episode has is reported.
KINDS = {
    "truncated": "a record ends too early, or cannot be read",
    "features": "a record's features differ from the description's",
    "length": "features, cameras or files differ in length",
    "nan": "a state or action is not a finite number",
    "picture": "an image is missing, damaged, or of another size",
    "clock": "timestamps, or the video's length, contradict the rates",
    "instruction": "nothing says what the robot was told to do",
    "duplicate": "the same episode was there before",
    "failed": "the episode did not succeed, and only such are wanted",
    "missing": "a file of the dataset is not there",
    "constant": "a number never changes in any episode",
}
ACTIONS = ("skip", "fatal")
NOTES = ("constant",)  # worth knowing, and no mistake of anybody's
_CLOCK_ERROR = 0.05  # of the rate


class Bad(errors.DataError):
  """An episode that has a problem of a kind."""

  def __init__(self, kind: str, text: str):
    super().__init__(text)
    self.kind = kind


@dataclasses.dataclass(frozen=True)
class Problem:
  """A find: `episode` is an id, or a file where there is no episode."""

  kind: str
  episode: str
  text: str
  skipped: bool

  def __str__(self) -> str:
    return f"{self.episode}: {self.text}" + (" Skipped." if self.skipped else
                                              "")


class Report:
  """Collects problems and decides what happens to their episodes."""

  def __init__(self, on_problem: str = "skip", keep: Collection[str] = ()):
    """`on_problem`: "skip" or "fatal"; `keep`: kinds that cost no episode.

    Raises:
      ConfigError: an unknown kind or action.
    """
    for what, given, known in (("reaction", [on_problem], list(ACTIONS)),
                               ("kind of problem", keep, list(KINDS))):
      for name in given:
        if name not in known:
          raise errors.ConfigError(
              f"Unknown {what} {name!r}; have: {', '.join(known)}."
              + registry.nearest(name, known))
    self._fatal, self._keep = on_problem == "fatal", set(keep)
    self.problems: list[Problem] = []

  def keeps(self, kind: str, episode: str, text: str,
            skipped: bool = True) -> bool:
    """Notes a problem; whether the episode is kept in spite of it.

    Args:
      kind: of `KINDS`.
      episode: its id.
      text: one sentence.
      skipped: False where it is about no single episode.

    Raises:
      DataError: such problems are fatal.
    """
    kept = kind in self._keep
    if self._fatal and not kept and kind not in NOTES:
      raise errors.DataError(f"{episode}: {text}")
    self.problems.append(Problem(kind, episode, text, skipped and not kept))
    return kept

  def counts(self) -> dict[str, int]:
    """Kind -> how many."""
    found = collections.Counter(problem.kind for problem in self.problems)
    return {kind: found[kind] for kind in KINDS if found[kind]}


def same_length(lengths: dict[str, int]) -> int:
  """The length that all share.

  Raises:
    Bad: they do not, or it is less than two; names two that differ.
  """
  (first, length), *rest = lengths.items()
  for name, other in rest:
    if other != length:
      raise Bad("length", f"{first!r} has {length} steps, {name!r} has "
                f"{other}.")
  if length < 2:
    raise Bad("length", f"It has {length} steps; a motion takes two.")
  return length


def clock(times: np.ndarray, hz: float) -> None:
  """That timestamps (s) run forwards, at the rate that is said.

  Raises:
    Bad: they do not.
  """
  steps = np.diff(times)
  if not len(steps):
    return
  if not (steps > 0).all():
    raise Bad("clock", f"Time stands still or runs backwards after step "
              f"{int(np.argmin(steps > 0))}.")
  found = 1 / float(np.median(steps))
  if abs(found / hz - 1) > _CLOCK_ERROR:
    raise Bad("clock", f"Its timestamps say {found:.4g} Hz; the dataset is "
              f"said to run at {hz:g} Hz.")


def episode(found: types.Episode) -> None:
  """What can be seen of an episode without its pictures.

  Raises:
    Bad: state or action are not finite, no instruction, or a video that is
      not as long as the controls.
  """
  recorded = not found.origin.labeler
  for name in ("state", "action") if recorded else ("state",):
    values = getattr(found, name)
    # The last action of an episode may be unknown.
    bad = values is not None and ~np.isfinite(values[:-1]).all(axis=1)
    if np.any(bad):
      raise Bad("nan", f"Its {name} is not finite in step "
                f"{int(np.argmax(bad))}.")
  if not found.instruction.strip():
    raise Bad("instruction", "It has no instruction.")


def spans(frames: int, steps: int, rates: types.Clock) -> None:
  """That video and controls last equally long, to a frame or step.

  Raises:
    Bad: they do not.
  """
  video, control = frames / rates.video_hz, steps / rates.control_hz
  if abs(video - control) > max(1 / rates.video_hz, 1 / rates.control_hz) + (
      1e-6):
    raise Bad("clock", f"Its video lasts {video:.3g} s at "
              f"{rates.video_hz:g} Hz, its controls {control:.3g} s at "
              f"{rates.control_hz:g} Hz.")


def constants(keys: Sequence[types.Key], low: np.ndarray, high: np.ndarray
              ) -> list[str]:
  """Names of the numbers that never change, such as "waist[2] = 0"."""
  return [f"{name} = {a:g}"
          for name, a, b in zip(names(keys), low, high, strict=True) if a == b]


def names(keys: Sequence[types.Key]) -> list[str]:
  """One name per number: "eef_position[0]", "gripper_close"."""
  return [f"{key.name}[{i}]" if key.dims > 1 else key.name
          for key in keys for i in range(key.dims)]


def listed(problems: Iterable[Problem], limit: int = 5,
           say: Callable[[str], None] = print) -> None:
  """Says the first few problems of each kind, and how many there are."""
  kinds: dict[str, list[Problem]] = {}
  for problem in problems:
    kinds.setdefault(problem.kind, []).append(problem)
  for kind, found in kinds.items():
    say(f"{len(found)} x {kind} ({KINDS[kind]})")
    for problem in found[:limit]:
      say(f"  {problem}")
    if len(found) > limit:
      say(f"  ... and {len(found) - limit} more")
