"""From the numbers of a recording to the vectors of an embodiment."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dreamgen_jax import errors, registry, types
from dreamgen_jax.data import description, layout, orientation

# Unit -> (what it measures, how many of the first such unit it is).
UNITS = {"m": ("length", 1.0), "cm": ("length", 1e-2), "mm": ("length", 1e-3),
         "rad": ("angle", 1.0), "deg": ("angle", np.pi / 180),
         "s": ("time", 1.0), "ms": ("time", 1e-3), "us": ("time", 1e-6),
         "ns": ("time", 1e-9)}
GRIPPERS = ("open", "closed")
CODES = ("int32", "int64")  # of letters, where a text is a list
_TURN = {"rad": 2 * np.pi, "deg": 360.0}
OVER_TIME = ("", "settle", "command", "difference", "next")
_SETTLED = 0.05  # from either end of [0, 1] (Octo's rule)
_COMMAND = 0.1  # smaller relative commands are none (Octo's rule)


def vector(columns: Mapping[str, tuple[layout.Column, ...]],
           keys: Sequence[types.Key],
           read: Callable[[str], np.ndarray]) -> np.ndarray:
  """One row per step.

  Args:
    columns: key -> where its numbers lie.
    keys: of the vector, in order.
    read: path of a feature -> float[n, k], its values, flattened.

  Returns:
    float32[n, d]; NaN only in the last row, where it cannot be known.

  Raises:
    DataError: a number is not finite.
  """
  parts = []
  for key in keys:
    parts += [convert(column, key, read(column.feature))
              for column in columns[key.name]]
  return np.concatenate(parts, axis=1).astype(np.float32)


def convert(column: layout.Column, key: types.Key,
            values: np.ndarray) -> np.ndarray:
  """A feature's values float[n, k] -> what of them a key wants, float64[n, d].

  Raises:
    DataError: a number is not finite.
  """
  x = np.asarray(values, np.float64)[:, column.entries(values.shape[1])]
  if not np.isfinite(x).all():
    raise errors.DataError(
        f"{column.path!r} is not finite in step "
        f"{int(np.argmin(np.isfinite(x).all(axis=1)))}.")
  x = (x * column.scale + column.offset) * _ratio(column, key)
  gripper = column.gripper or key.gripper
  if column.over_time == "command":
    x = _commanded(x, at_first=float(gripper == "open"))
  if column.gripper:
    x = np.clip(x, 0, 1)
    x = 1 - x if key.gripper and key.gripper != column.gripper else x
  if column.rotation and column.over_time == "difference":
    return _turns(x, column.rotation, key.rotation)
  if column.rotation:
    x = orientation.convert(x, column.rotation, key.rotation)
  if column.over_time == "settle":
    x = _settled(x)
  elif key.kind == "binary":
    x = (x > 0.5).astype(np.float64)
  if column.over_time in ("difference", "next"):
    after = _unknown_last(x[1:])
    x = after - x if column.over_time == "difference" else after
    turn = _TURN.get(key.unit)
    if turn and column.over_time == "difference":
      x = (x + turn / 2) % turn - turn / 2
  return x


def names(given: layout.Layout, found: description.Description
          ) -> dict[str, str]:
  """Path that a layout uses -> the feature's full name, all checked.

  Raises:
    DataError: no such feature, or one of another kind or width; says what is
      there instead.
  """
  resolved: dict[str, str] = {}

  def field(path: str, what: str, wanted: str) -> description.Field:
    inside = f"{given.steps}/{path}"
    name = inside if inside in found.fields else path
    if name not in found.fields:
      short = [known.removeprefix(f"{given.steps}/") for known in found.fields]
      raise errors.DataError(
          f"The {what} is said to lie in {path!r}, which {found.path} does not "
          f"have; it has: {_listed(found, given.steps)}."
          + registry.nearest(path, short))
    resolved[path] = name
    there = found.fields[name]
    # Encoded pictures may be called strings, and sentences lists of codes.
    is_picture = there.coding in ("image", "text") or (
        there.dtype == "uint8" and len(there.shape) == 3)
    is_text = there.coding == "text" or there.dtype == "uint8" or (
        there.dtype in CODES and bool(there.shape))
    fits = {"text": is_text,
            "image": there.in_steps and is_picture,
            "number": there.coding not in ("text", "image") and there.size > 0,
            "any": True}
    if not fits[wanted]:
      raise errors.DataError(
          f"The {what} must be {'an' if wanted == 'image' else 'a'} {wanted}"
          f"{' per step' if wanted == 'image' else ''}; {path!r} of "
          f"{found.path} is {there}.")
    return there

  for kind in ("state", "action"):
    for key in getattr(given.embodiment, kind):
      columns = given.columns(kind).get(key.name, ())
      what, width = f"{kind} {key.name!r}", 0
      for column in columns:
        _check(column, key, what)
        there = field(column.feature, what, "number")
        if not there.in_steps:
          raise errors.DataError(
              f"The {what} must have a value per step; {column.feature!r} of "
              f"{found.path} has one per episode.")
        taken = len(column.entries(there.size))
        if column.rotation and taken != orientation.DIMS[column.rotation]:
          raise errors.DataError(
              f"The {what} is said to be {column.rotation}, of "
              f"{orientation.DIMS[column.rotation]} numbers; {column.path!r} "
              f"gives {taken} of {there}.")
        width += (orientation.DIMS[key.rotation]
                  if column.rotation and key.rotation else taken)
      if columns and width != key.dims:
        raise errors.DataError(
            f"The {what} has {key.dims} numbers; "
            f"{' and '.join(repr(column.path) for column in columns)} of "
            f"{found.path} give {width}.")
  for camera, path in given.cameras.items():
    field(path, f"camera {camera!r}", "image")
  for path in given.instruction:
    field(path, "instruction", "text")
  if given.success:
    field(given.success, "success", "text" if given.success_pattern else
          "number")
  if given.source_id:
    field(given.source_id, "source id", "any")
  if given.timestamp:
    field(time_of(given).feature, "timestamp", "number")
  return resolved


def time_of(given: layout.Layout) -> layout.Column:
  """The layout's timestamp as a column."""
  time = given.timestamp
  return time if isinstance(time, layout.Column) else layout.Column(time, "s")


def seconds(given: layout.Layout, values: np.ndarray) -> np.ndarray:
  """The timestamp's values float[n, k] in seconds, float64[n]."""
  key = types.Key("timestamp", 1, unit="s")
  return convert(time_of(given), key, values)[:, 0]


def _check(column: layout.Column, key: types.Key, what: str) -> None:
  """That what a column says of itself can be said."""
  for name, value, known in (
      ("unit", column.unit, list(UNITS)),
      ("gripper", column.gripper, list(GRIPPERS)),
      ("over_time", column.over_time, list(OVER_TIME)),
      ("rotation", column.rotation, list(orientation.DIMS))):
    if value and value not in known:
      raise errors.DataError(
          f"The {what} has the {name} {value!r}; have: "
          f"{', '.join(filter(None, known))}." + registry.nearest(value, known))
  if column.unit and (UNITS[column.unit][0]
                      != UNITS.get(key.unit, ("nothing",))[0]):
    raise errors.DataError(
        f"The {what} is in {key.unit!r}; {column.unit!r} of {column.path!r} "
        "cannot be converted to that.")
  for name in ("rotation", "gripper"):
    if getattr(column, name) and not getattr(key, name):
      raise errors.DataError(
          f"{column.path!r} is said to be the {name} "
          f"{getattr(column, name)!r}, but the embodiment does not say which "
          f"{name} its {what} is; give its Key {name}=....")
  if column.rotation and key.unit == "deg":
    raise errors.DataError(
        f"The {what} is a rotation, and those are kept in radians; give its "
        "Key unit='rad', and its Column the unit 'deg' if it is recorded so.")


def _ratio(column: layout.Column, key: types.Key) -> float:
  """How many of the key's units one of the column's is."""
  return UNITS[column.unit][1] / UNITS[key.unit][1] if column.unit else 1.0


def _commanded(x: np.ndarray, at_first: float) -> np.ndarray:
  """Relative commands float[n, 1] -> 0 or 1; before the first, its opposite.

  `at_first` is what a gripper that is never told anything does.
  """
  told = np.where(np.abs(x[:, 0]) > _COMMAND, np.sign(x[:, 0]), 0)  # n
  if not told.any():
    return np.full_like(x, at_first)
  last = np.maximum.accumulate(np.where(told != 0, np.arange(len(x)), -1))
  first = -told[np.flatnonzero(told)[0]]
  return ((np.where(last < 0, first, told[last]) + 1) / 2)[:, None]


def _settled(x: np.ndarray) -> np.ndarray:
  """Values in [0, 1] -> 0 or 1; those in between become what follows them."""
  out = (x > 0.5).astype(np.float64)
  for i in range(len(x) - 2, -1, -1):
    between = np.abs(x[i] - 0.5) < 0.5 - _SETTLED
    out[i] = np.where(between, out[i + 1], out[i])
  return out


def _turns(x: np.ndarray, old: str, new: str) -> np.ndarray:
  """The rotation until the next step, as the fixed frame sees it."""
  at = orientation.to_matrix(x, old)
  return _unknown_last(orientation.from_matrix(
      at[1:] @ np.swapaxes(at[:-1], -1, -2), new))


def _unknown_last(x: np.ndarray) -> np.ndarray:
  """One row more, which nobody knows."""
  return np.concatenate([x, np.full_like(x[:1], np.nan, shape=(
      1, x.shape[1]))])


def _listed(found: description.Description, steps: str) -> str:
  return ", ".join(
      f"{name.removeprefix(steps + '/')} {field}"
      for name, field in found.fields.items())
