"""What a world model sees of a scene: one camera, or several as one picture.

Several cameras share a 2x2 grid: left and right view above, wrist view and
black below (DreamGen, arXiv 2505.12705, for RoboCasa and DROID), and the
prompt says so, in training and in dreaming alike.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from dreamgen_jax import errors
from dreamgen_jax.data import images

PLACES = ("top left", "top right", "bottom left", "bottom right")


@dataclasses.dataclass(frozen=True)
class View:
  """One camera, or up to four that fill the grid row by row."""

  cameras: tuple[str, ...]

  @classmethod
  def of(cls, camera: str | Sequence[str]) -> "View":
    """A camera's name, or names; "" leaves its place black.

    Raises:
      ConfigError: no camera, more than four, or one twice.
    """
    names = (camera,) if isinstance(camera, str) else tuple(camera)
    named = [name for name in names if name]
    if not named or len(names) > 4 or len(set(named)) < len(named):
      raise errors.ConfigError(
          f"A view has one to four different cameras, not {list(names)}.")
    return cls(names)

  @property
  def named(self) -> tuple[str, ...]:
    """The cameras that there are."""
    return tuple(name for name in self.cameras if name)

  def size(self, height: int, width: int) -> tuple[int, int]:
    """Of each camera's picture, when the whole has `height` x `width`.

    Raises:
      ConfigError: the grid does not halve the picture.
    """
    if len(self.cameras) == 1:
      return height, width
    if height % 2 or width % 2:
      raise errors.ConfigError(
          f"A grid of cameras needs even sides, not {height}x{width}.")
    return height // 2, width // 2

  def compose(self, video: Mapping[str, np.ndarray],
              size: tuple[int, int] | None = None) -> np.ndarray:
    """{camera: u8[..., h, w, 3]} -> one picture u8[..., *size, 3].

    Without a size, cameras keep theirs, and must agree.
    """
    parts = [video[name] for name in self.named]
    if size:
      parts = [images.resize(part, *self.size(*size)) for part in parts]
    if len(self.cameras) == 1:
      return parts[0]
    black = np.zeros_like(parts[0])
    found = dict(zip(self.named, parts, strict=True))
    grid = [found.get(name, black) for name in self.cameras]
    grid += [black] * (4 - len(grid))
    rows = [np.concatenate(grid[i:i + 2], axis=-2) for i in (0, 2)]
    return np.concatenate(rows, axis=-3)

  def split(self, video: np.ndarray) -> dict[str, np.ndarray]:
    """The inverse of `compose`: each camera at its size in the picture."""
    h, w = self.size(*video.shape[-3:-1])
    found = {}
    for place, name in enumerate(self.cameras):
      if name:
        row, column = divmod(place, 2)
        found[name] = video[..., row * h:(row + 1) * h,
                            column * w:(column + 1) * w, :]
    return found

  def prompt(self, instruction: str) -> str:
    """The instruction, after a sentence that tells the grid's places."""
    if len(self.cameras) == 1:
      return instruction
    names = self.cameras + ("",) * (4 - len(self.cameras))
    places = ", ".join(
        f"the {place} shows the {name} view" if name else
        f"the {place} is black"
        for place, name in zip(PLACES, names, strict=True))
    return (f"A multi-view video of a robot: {places}. "
            f"The robot's task: {instruction}")
