"""Pictures that are moved together with the positions they show.

A policy that sees a few hundred layouts learns them by heart sooner than it
learns to look. To move its pictures alone would be wrong where positions are
told in the robot's frame and the camera stands still. But what the moved
picture shows is, to first order, the same scene elsewhere on the table: so
states and actions move along with it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dreamgen_jax import errors, types
from dreamgen_jax.data import normalize


@dataclasses.dataclass(frozen=True, eq=False)
class Slide:
  """Moves a sample of `windows.Observations` at random.

  Attributes:
    share: the most that a picture is moved by, as a share of its sides.
    right, down: what a picture's whole width or height is on the table, (x, y)
      in metres, where the gripper is.
    action, state: normalizers of the sample's vectors; None where it has no
      states.
  """

  share: float
  right: Sequence[float]
  down: Sequence[float]
  action: normalize.Normalizer
  state: normalize.Normalizer | None

  def __post_init__(self):
    for normalizer in filter(None, (self.action, self.state)):
      place(normalizer.keys)

  def __call__(self, sample: dict[str, Any],
               rng: np.random.Generator) -> dict[str, Any]:
    """The sample with other image/<camera>, state and action.

    Edge pixels are repeated; states that are not known stay zero.
    """
    name = next(name for name in sample if name.startswith("image/"))
    image = sample[name]  # o h w c
    size = np.array(image.shape[1:3])
    most = np.floor(self.share * size).astype(int)
    down, right = moved = rng.integers(-most, most + 1)
    sides = [(0, 0), *((side, side) for side in most), (0, 0)]
    top, left = most - moved
    shown = np.pad(image, sides, mode="edge")[
        :, top:top + size[0], left:left + size[1]]
    metres = (right / size[1] * np.asarray(self.right)
              + down / size[0] * np.asarray(self.down))
    found = {name: shown, "action": _move(
        sample["action"], self.action, metres)}
    if self.state:
      found["state"] = np.where(
          sample["state_mask"][:, None],
          _move(sample["state"], self.state, metres), 0).astype(np.float32)
    return sample | found


def place(keys: Sequence[types.Key]) -> slice:
  """Where x and y are in a vector of these keys.

  Raises:
    DataError: no key is an absolute place in metres.
  """
  start = 0
  for key in keys:
    if key.unit == "m" and key.absolute and key.dims >= 2:
      return slice(start, start + 2)
    start += key.dims
  raise errors.DataError(
      f"slide moves places, and none of {[key.name for key in keys]} is one "
      "in metres that is absolute; leave slide out.")


def _move(vectors: np.ndarray, normalizer: normalize.Normalizer,
          metres: np.ndarray) -> np.ndarray:
  found = normalizer.undo(vectors)
  found[..., place(normalizer.keys)] += metres
  return normalizer.apply(found)
