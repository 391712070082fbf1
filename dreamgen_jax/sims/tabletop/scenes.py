"""Ten rooms, and the colours of things."""

import dataclasses

import numpy as np

COLOURS = {
    "red": (0.85, 0.13, 0.10),
    "green": (0.12, 0.62, 0.20),
    "blue": (0.13, 0.30, 0.88),
    "yellow": (0.95, 0.84, 0.10),
    "orange": (0.97, 0.50, 0.08),
    "cyan": (0.15, 0.78, 0.82),
    "purple": (0.50, 0.18, 0.62),
    "white": (0.95, 0.95, 0.95),
    "black": (0.11, 0.11, 0.12),
    "pink": (0.96, 0.48, 0.70),
}
BLOCK_COLOURS = ("red", "green", "blue", "yellow", "orange", "cyan")
BIN_COLOURS = ("purple", "white", "black")


@dataclasses.dataclass(frozen=True)
class Scene:
  """Colours are RGB in [0, 1]; `checker` is the table's second colour.

  `sway` bounds the camera's random offset per axis, in metres.
  """

  table: tuple[float, float, float]
  wall: tuple[float, float, float]
  floor: tuple[float, float, float] = (0.35, 0.37, 0.40)
  light: tuple[float, float, float] = (0.58, 0.58, 0.58)
  ambient: tuple[float, float, float] = (0.35, 0.35, 0.35)
  light_direction: tuple[float, float, float] = (-0.35, 0.35, -1.0)
  checker: tuple[float, float, float] | None = None
  sway: float = 0.02


SCENES = {
    # The training room: its camera never moves.
    "wood": Scene((0.72, 0.55, 0.38), (0.78, 0.80, 0.82), sway=0.0),
    "marble": Scene((0.84, 0.84, 0.88), (0.50, 0.60, 0.70)),
    "slate": Scene((0.27, 0.25, 0.26), (0.52, 0.46, 0.42),
                   ambient=(0.28, 0.28, 0.28)),
    "felt": Scene((0.30, 0.50, 0.38), (0.88, 0.84, 0.74)),
    "sky": Scene((0.38, 0.47, 0.62), (0.80, 0.74, 0.68)),
    "brick": Scene((0.62, 0.60, 0.55), (0.62, 0.33, 0.25)),
    "checker": Scene((0.80, 0.75, 0.65), (0.78, 0.80, 0.76),
                     checker=(0.60, 0.46, 0.36)),
    "dusk": Scene((0.72, 0.55, 0.38), (0.52, 0.52, 0.58),
                  light=(0.36, 0.36, 0.34), ambient=(0.26, 0.26, 0.29)),
    "sunset": Scene((0.70, 0.56, 0.42), (0.92, 0.68, 0.50),
                    light=(0.66, 0.50, 0.38), ambient=(0.34, 0.29, 0.27),
                    light_direction=(0.0, -1.0, -0.9)),
    "blush": Scene((0.84, 0.70, 0.72), (0.93, 0.80, 0.84)),
}


def vary(scene: Scene, rng: np.random.Generator) -> Scene:
  """The room with shifted colours and light, for corpus diversity."""

  def shift(colour, width):
    moved = np.clip(np.asarray(colour) + rng.uniform(-width, width, 3), 0, 1)
    return tuple(float(value) for value in moved)

  return dataclasses.replace(
      scene,
      table=shift(scene.table, 0.10),
      wall=shift(scene.wall, 0.12),
      light=shift(scene.light, 0.12),
      ambient=shift(scene.ambient, 0.05),
      light_direction=(
          float(rng.uniform(-0.6, 0.6)), float(rng.uniform(-0.6, 0.6)), -1.0
      ),
      sway=0.025,
  )
