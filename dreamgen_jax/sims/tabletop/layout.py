"""What stands where on the table; drawn so that the verb can be done.

All positions are metres in the base frame, yaws are radians.
"""

import dataclasses

import numpy as np

from dreamgen_jax import errors
from dreamgen_jax.sims.tabletop import scenes

HALF = 0.028  # half of a block's edge
BIN_HALF = 0.072
BIN_HEIGHT = 0.03
PILLAR_HALF = (0.02, 0.02, 0.07)
DRAWER_TRAVEL = 0.12
HANDLE = 0.152  # from the cabinet's centre to the bar, along -y
LEVER_REACH = 0.10

DIRECTIONS = {
    "push": (1.0, 0.0),
    "pull": (-1.0, 0.0),
    "slide_left": (0.0, -1.0),
    "slide_right": (0.0, 1.0),
    "topple": (1.0, 0.0),
}
FIXTURES = {
    "open_drawer": "drawer",
    "close_drawer": "drawer",
    "press_button": "button",
    "turn_lever": "lever",
    "topple": "pillar",
}


@dataclasses.dataclass(frozen=True)
class Block:
  """A cube at its centre; yaw in radians."""

  colour: str
  x: float
  y: float
  yaw: float
  z: float = HALF


@dataclasses.dataclass(frozen=True)
class Bin:
  """An open tray, centred at x, y."""

  colour: str
  x: float
  y: float


@dataclasses.dataclass(frozen=True)
class Layout:
  """The first block is handled, the second is the other one.

  `fixture` is "", "drawer", "button", "lever" or "pillar"; `spot` is where a
  block that is taken out of the first bin goes.
  """

  blocks: tuple[Block, ...]
  bins: tuple[Bin, ...]
  fixture: str = ""
  fixture_xy: tuple[float, float] = (0.0, 0.0)
  spot: tuple[float, float] = (0.0, 0.0)


def sample(verb: str, rng: np.random.Generator,
           spread: float = 1.0) -> Layout:
  """Draws layouts until one leaves the verb's way free.

  Args:
    verb: what will be done.
    rng: where from.
    spread: share of the ranges in which what is handled (and its bins) is
      placed; other blocks stand anywhere, and all are turned anyhow.

  Raises:
    ConfigError: a spread outside (0, 1].
    UserError: no layout fits after many draws (cannot happen for our verbs).
  """
  if not 0 < spread <= 1:
    raise errors.ConfigError(f"spread is {spread}; it must be in (0, 1].")
  for _ in range(4000):
    layout = _propose(verb, rng, spread)
    if _possible(verb, layout):
      return layout
  raise errors.UserError(f"no free layout for verb {verb!r}; use another seed")


def _propose(verb: str, rng: np.random.Generator, spread: float) -> Layout:
  def draw(low, high, spread=spread):
    low, high = np.asarray(low), np.asarray(high)
    middle, half = (low + high) / 2, spread * (high - low) / 2
    return rng.uniform(middle - half, middle + half)

  colours = rng.permutation(scenes.BLOCK_COLOURS)
  bin_colours = rng.permutation(scenes.BIN_COLOURS)
  fixture = FIXTURES.get(verb, "")
  sides = [int(rng.choice([-1, 1]))]
  if fixture:
    sides = [-1]  # fixtures stand on the other side
  elif rng.random() < 0.5:
    sides.append(-sides[0])
  bins = tuple(
      Bin(str(colour), draw(0.40, 0.53), side * draw(0.205, 0.235))
      for colour, side in zip(bin_colours, sides, strict=False)
  )
  # A block that is pushed must show a face to the fingers.
  turn = 0.35 if verb in DIRECTIONS or verb == "gather" else 0.75
  blocks = [
      Block(str(colour), draw(0.36, 0.58, share), draw(-0.16, 0.16, share),
            draw(-turn, turn, 1.0))
      for colour, share in zip(
          colours[:2], (1.0 if fixture else spread, 1.0), strict=True)
  ]
  if verb == "take_out":
    blocks[0] = dataclasses.replace(
        blocks[0], x=bins[0].x + rng.uniform(-0.012, 0.012),
        y=bins[0].y + rng.uniform(-0.012, 0.012), z=HALF + 0.006)
  low, high = {
      "drawer": ((0.47, 0.265), (0.53, 0.285)),
      "button": ((0.42, 0.12), (0.56, 0.22)),
      "lever": ((0.48, 0.15), (0.55, 0.20)),
      "pillar": ((0.40, -0.05), (0.50, 0.18)),
  }.get(fixture, ((0.0, 0.0), (0.0, 0.0)))
  return Layout(
      tuple(blocks), bins, fixture, tuple(draw(low, high).tolist()),
      (draw(0.38, 0.54), draw(-0.14, 0.14)),
  )


# Rectangles are (x, y, half x, half y).


def _bin_rectangle(thing: Bin) -> tuple:
  return (thing.x, thing.y, BIN_HALF, BIN_HALF)


def _block_rectangle(block: Block) -> tuple:
  return (block.x, block.y, 0.034, 0.034)


def _fixture_rectangles(layout: Layout) -> list[tuple]:
  x, y = layout.fixture_xy
  return {
      "": [],
      "drawer": [(x, y, 0.085, 0.085), (x, y - 0.18, 0.06, 0.12)],
      "button": [(x, y, 0.05, 0.05)],
      "lever": [(x, y, 0.06, 0.06), (x - 0.07, y - 0.07, 0.06, 0.06)],
      "pillar": [(x, y, *PILLAR_HALF[:2])],
  }[layout.fixture]


def _free(start, end, rectangles, margin: float) -> bool:
  """Whether the segment stays `margin` away from every rectangle."""
  points = np.linspace(start, end, 9)
  for x, y, half_x, half_y in rectangles:
    gap_x = np.maximum(np.abs(points[:, 0] - x) - half_x, 0)
    gap_y = np.maximum(np.abs(points[:, 1] - y) - half_y, 0)
    if np.hypot(gap_x, gap_y).min() < margin:
      return False
  return True


def _inside(point) -> bool:
  return 0.30 <= point[0] <= 0.665 and abs(point[1]) <= 0.30


def _possible(verb: str, layout: Layout) -> bool:
  first, second = layout.blocks
  a, b = np.array([first.x, first.y]), np.array([second.x, second.y])
  bins = [_bin_rectangle(thing) for thing in layout.bins]
  fixtures = _fixture_rectangles(layout)
  other = _block_rectangle(second)
  around_a = [*bins, *fixtures, other]
  around_b = [*bins, *fixtures, _block_rectangle(first)]
  if verb == "take_out":
    if not _free(b, b, around_b, 0.055):
      return False
    return _free(layout.spot, layout.spot, [*bins, other], 0.065)
  if not (_free(a, a, around_a, 0.068) and _free(b, b, around_b, 0.050)):
    return False
  if verb in ("push", "pull", "slide_left", "slide_right"):
    way = np.array(DIRECTIONS[verb])
    start, end = a - 0.10 * way, a + 0.14 * way
    return (_inside(start) and _inside(end)
            and _free(start, end, around_a, 0.055))
  if verb == "gather":
    way = (b - a) / np.linalg.norm(b - a)
    start = a - 0.10 * way
    # Pushed on a face, not on an edge.
    skew = np.arctan2(way[1], way[0]) - np.array([first.yaw, second.yaw])
    skew = (skew + np.pi / 4) % (np.pi / 2) - np.pi / 4
    return (np.abs(skew).max() < 0.4 and _inside(start)
            and 0.15 < np.linalg.norm(b - a) < 0.23
            and _free(start, b, [*bins, *fixtures], 0.05)
            and _free(start, a, [other], 0.05))
  if verb == "stack":
    return _free(b, b, around_b, 0.068)
  if verb == "topple":
    x, y = layout.fixture_xy
    goal = np.array([layout.bins[0].x, layout.bins[0].y])
    things = [*bins, other, _block_rectangle(first)]
    return (_free((x - 0.10, y), (x + 0.20, y), things, 0.045)
            and _free(a, goal, fixtures, 0.09))
  return True
