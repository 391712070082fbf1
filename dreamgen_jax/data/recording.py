"""One record of a foreign dataset, read in the words of a layout."""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dreamgen_jax import errors, types
from dreamgen_jax.data import (
    checks,
    columns,
    description,
    example,
    layout,
    pictures,
    ranges,
)

_AHEAD = 16  # bytes; more than the header of a byte string


class Recording:
  """A tf.Example as steps; each feature is read when it is asked for."""

  def __init__(self, given: layout.Layout, fields: Mapping[
      str, description.Field], names: Mapping[str, str], record: ranges.Part):
    """Args: the layout, its dataset's fields, `columns.names`, the record."""
    self._layout, self._fields, self._names = given, fields, names
    self._features = example.features(record)
    self._read: dict[str, np.ndarray] = {}

  def vectors(self) -> tuple[np.ndarray | None, np.ndarray | None]:
    """State f32[n,s] and action f32[n,a], None where the layout has none.

    Raises:
      Bad: numbers are missing, not finite, or differ in length.
    """
    given, robot = self._layout, self._layout.embodiment
    try:
      state, action = (
          columns.vector(found, keys, self.numbers) if found else None
          for found, keys in ((given.columns("state"), robot.state),
                              (given.columns("action"), robot.action)))
      return state, action
    except checks.Bad:
      raise
    except errors.DataError as error:
      raise checks.Bad("nan", str(error)) from error

  def steps(self) -> int:
    """Number of steps, which all cameras and columns share.

    Raises:
      Bad: they do not.
    """
    given = self._layout
    paths = list(dict.fromkeys([
        column.feature for kind in ("state", "action")
        for each in given.columns(kind).values() for column in each]))
    lengths = {path: len(self.numbers(path)) for path in paths}
    lengths |= {path: len(self._pictures(path))
                for path in given.cameras.values()}
    return checks.same_length(lengths)

  def video(self, camera: str, frames: Sequence[int],
            empty: Callable[..., np.ndarray] = np.empty) -> np.ndarray:
    """Some frames of a camera, u8[f,h,w,3], where `pictures.decode` puts them.

    Raises:
      Bad: a picture is damaged.
    """
    path = self._layout.cameras[camera]
    found = self._pictures(path)
    if isinstance(found, np.ndarray):
      found = found[list(frames)][..., :3]
      return np.broadcast_to(found, (*found.shape[:3], 3))  # grey, too
    try:
      return pictures.decode([found[i] for i in frames], empty)
    except errors.DataError as error:
      raise checks.Bad("picture", f"Camera {camera!r}: {error}") from error

  def check_pictures(self) -> None:
    """Raises Bad where a picture is not there, or not whole."""
    for camera, path in self._layout.cameras.items():
      found = self._pictures(path)
      if isinstance(found, np.ndarray):
        continue
      for step, part in enumerate(found):
        if wrong := pictures.flaw(part):
          raise checks.Bad(
              "picture", f"Camera {camera!r}: picture {step} {wrong}.")

  def instruction(self, draw: int) -> str:
    """Of the sentences that are not empty the one that `draw` says, or ""."""
    found = [text for path in self._layout.instruction
             if (text := self._told(path))]
    return found[draw % len(found)] if found else ""

  def success(self) -> bool | None:
    """Whether it succeeded; None where nothing says so."""
    given = self._layout
    if not given.success:
      return None
    if given.success_pattern:
      return bool(re.search(given.success_pattern, self.text(given.success)))
    return bool(self.numbers(given.success)[-1].any())

  def check_clock(self) -> None:
    """Raises Bad where timestamps contradict the layout's rate."""
    given = self._layout
    if given.timestamp:
      values = self.numbers(columns.time_of(given).feature)
      checks.clock(columns.seconds(given, values),
                   given.embodiment.clock.control_hz)

  def text(self, path: str) -> str:
    """A text, that of the first step if there are several; numbers are joined.
    """
    name = self._names[path]
    values = self._feature(name).values()
    if isinstance(values, np.ndarray):
      return ",".join(map(str, values[:max(1, self._fields[name].size)]))
    return values[0].decode(errors="replace").strip() if values else ""

  def numbers(self, path: str) -> np.ndarray:
    """A feature's values, one flat row per step, [n, k].

    Raises:
      Bad: the record has no such feature, or not whole rows of it.
    """
    if path not in self._read:
      self._read[path] = self._rows(self._names[path])
    return self._read[path]

  def _told(self, path: str) -> str:
    """A sentence, which may be a list of letters' codes; "" if it is not there.
    """
    name = self._names[path]
    if name not in self._features:
      return ""
    codes = self._features[name].values()
    if not isinstance(codes, np.ndarray):
      return self.text(path)
    size = self._fields[name].size
    found = bytes(codes[:size if size > 1 else None].astype(np.uint8))
    return found.split(b"\0")[0].decode(errors="replace").strip()

  def _rows(self, name: str) -> np.ndarray:
    field, values = self._fields[name], self._feature(name).values()
    try:
      values = description.numbers(field, values)
    except errors.DataError as error:
      raise checks.Bad("features", f"{name!r}: {error}.") from error
    if not isinstance(values, np.ndarray):
      raise checks.Bad("features", f"{name!r} holds bytes, not {field}.")
    if len(values) % field.size:
      raise checks.Bad(
          "features", f"{name!r} has {len(values)} numbers, which are no "
          f"whole rows of {field}.")
    return values.reshape(-1, field.size)

  def _pictures(self, path: str) -> list[ranges.Part] | np.ndarray:
    """The encoded picture of every step, or u8[n,h,w,3]."""
    name = self._names[path]
    field = self._fields[name]
    if field.coding in ("image", "text"):
      return _parts(self._feature(name).part)
    return self.numbers(path).reshape(-1, *field.shape).astype(np.uint8)

  def _feature(self, name: str) -> example.Feature:
    if name not in self._features:
      raise checks.Bad(
          "features", f"It lacks {name!r}, which the description promises.")
    return self._features[name]


def moving(action: np.ndarray, keys: Sequence[types.Key],
           idle: layout.Idle | None, hz: float) -> list[tuple[int, int]]:
  """(first step, number of steps > 1) of the stretches that are not idle.

  Args:
    action: f32[n,a].
    keys: of the action.
    idle: see `layout.Idle`; None keeps all.
    hz: of the steps.
  """
  n = len(action)
  if idle is None:
    return [(0, n)]
  rows = np.nan_to_num(action)
  change = np.abs(np.diff(rows, axis=0, prepend=rows[:1]))
  absolute = np.repeat([key.absolute for key in keys],
                       [key.dims for key in keys])
  binary = np.repeat([key.kind == "binary" for key in keys],
                     [key.dims for key in keys])
  size = np.where(absolute, change, np.abs(rows))
  busy = (np.where(binary, change > 0.5, size > idle.below)).any(axis=1)
  edges = np.flatnonzero(np.diff(np.concatenate([[0], ~busy, [0]])))
  kept = np.ones(n, bool)
  for begin, end in edges.reshape(-1, 2):
    if end - begin > idle.seconds * hz:
      kept[begin:end] = False
  edges = np.flatnonzero(np.diff(np.concatenate([[0], kept, [0]])))
  return [(int(begin), int(end - begin))
          for begin, end in edges.reshape(-1, 2) if end - begin > 1]


def _parts(listed: ranges.Part) -> list[ranges.Part]:
  """Each byte string of a feature, not read yet."""
  found, at = [], 0
  while at < listed.size:
    size, begin = ranges.varint(listed.read(at, _AHEAD), 1)
    found.append(listed.part(at + begin, size))
    at += begin + size
  return found
