"""Scripted experts: waypoints per verb, spread over steps of at most 12 cm.

A plan yields waypoints (x, y, z, yaw, close); it runs while the world moves,
so it may look where a block went. `actions` turns it into one target per
control step and holds the last target for ever.
"""

from collections.abc import Iterator

import numpy as np

from dreamgen_jax.sims.tabletop import control
from dreamgen_jax.sims.tabletop import layout as layouts
from dreamgen_jax.sims.tabletop import world as worlds

HALF = layouts.HALF
GRASP = HALF - 0.003  # height of the tip when it holds a block on the table
SWEEP = 0.026  # height of the tip when it pushes
SPEED = 0.88  # share of the greatest; always the same, so that one frame and
# one sentence tell when what happens
CALM = 0.62  # share of that for verbs that need no carrying
CARRIES = ("pick_place", "stack", "take_out")
CARRY = 0.125  # height of the tip when it carries


def _mod(angle: float, period: float) -> float:
  return (angle + period / 2) % period - period / 2


def _at(xy, z, yaw, close) -> np.ndarray:
  return np.array([xy[0], xy[1], z, yaw, close], float)


def _pick(world, rng, yaw=None):
  """Opens above the first block, descends, closes."""
  xy = world.position("block0")[:2] + rng.uniform(-0.003, 0.003, 2)
  z = world.position("block0")[2] - HALF + GRASP
  if yaw is None:
    yaw = _mod(world.yaw("block0"), np.pi / 2)
  yield _at(xy, z + rng.uniform(0.075, 0.09), yaw, 0)
  yield _at(xy, z, yaw, 0)
  yield _at(xy, z, yaw, 1)


def _carry(world, rng, xy, z, yaw):
  """Lifts, moves to xy, lowers to z, opens, retreats upwards."""
  here = world.arm.target
  high = max(CARRY + rng.uniform(0, 0.015), z + 0.05)
  yield _at(here[:2], high, here[3], 1)
  yield _at(xy, high, yaw, 1)
  yield _at(xy, z, yaw, 1)
  yield _at(xy, z, yaw, 0)
  yield _at(xy, z + 0.09, yaw, 0)


def _pick_place(world, rng):
  yield from _pick(world, rng)
  thing = world.layout.bins[0]
  xy = np.array([thing.x, thing.y]) + rng.uniform(-0.012, 0.012, 2)
  yield from _carry(world, rng, xy, 0.05, 0.0)


def _lift(world, rng):
  yield from _pick(world, rng)
  here = world.arm.target
  yield _at(here[:2], rng.uniform(0.15, 0.20), here[3], 1)


def _stack(world, rng):
  yield from _pick(world, rng)
  below = world.position("block1")
  yaw = _mod(world.yaw("block1"), np.pi / 2)
  yield from _carry(world, rng, below[:2], 2 * HALF + GRASP + 0.004, yaw)


def _sweep(world, rng, start, end, yaw=0.0):
  """Goes down at `start` with closed fingers and moves to `end`."""
  high = SWEEP + rng.uniform(0.075, 0.09)
  yield _at(start, high, yaw, 1)
  yield _at(start, SWEEP, yaw, 1)
  yield _at(end, SWEEP, yaw, 1)


def _displace(verb):
  way = np.array(layouts.DIRECTIONS[verb])

  def plan(world, rng):
    block = world.position("block0")[:2]
    reach = 0.02 + HALF
    travel = rng.uniform(0.095, 0.115)
    end = block + way * (travel - reach)
    yield from _sweep(world, rng, block - way * (reach + 0.022), end)
    yield _at(end - way * 0.04, SWEEP + 0.06, 0.0, 1)

  return plan


def _touch(world, rng):
  block = world.position("block0")
  xy = block[:2] + rng.uniform(-0.006, 0.006, 2)
  top = block[2] + HALF
  yield _at(xy, top + rng.uniform(0.08, 0.10), 0.0, 1)
  yield _at(xy, top + 0.012, 0.0, 1)


def _topple(world, rng):
  x, y, _ = world.position("pillar")
  z = rng.uniform(0.10, 0.115)
  yield _at((x - 0.085, y), 0.19, 0.0, 1)
  yield _at((x - 0.08, y), z, 0.0, 1)
  yield _at((x + rng.uniform(0.06, 0.08), y), z, 0.0, 1)
  yield _at((x + 0.02, y), z + 0.06, 0.0, 1)


def _handle(world) -> np.ndarray:
  return world.position("drawer") - (0, layouts.HANDLE, 0)


def _open_drawer(world, rng):
  """Hooks the closed fingers behind the bar and pulls towards -y."""
  x, y, z = _handle(world)
  x, y, z = x + rng.uniform(-0.015, 0.015), y + 0.034, z - 0.004
  pulled = y - rng.uniform(0.115, 0.125)
  yield _at((x, y), 0.155, 0.0, 1)
  yield _at((x, y), z, 0.0, 1)
  yield _at((x, pulled), z, 0.0, 1)
  yield _at((x, pulled + 0.002), z + 0.08, 0.0, 1)


def _close_drawer(world, rng):
  x, y, z = _handle(world)
  x += rng.uniform(-0.02, 0.02)
  yield _at((x, y - 0.05), 0.14, 0.0, 1)
  yield _at((x, y - 0.05), z, 0.0, 1)
  yield _at((x, y + worlds.DRAWER_OPEN - 0.014), z, 0.0, 1)
  yield _at((x, y + 0.01), z + 0.04, 0.0, 1)


def _press_button(world, rng):
  xy = world.position("button")[:2] + rng.uniform(-0.008, 0.008, 2)
  yield _at(xy, rng.uniform(0.14, 0.16), 0.0, 1)
  yield _at(xy, 0.065, 0.0, 1)


def _turn_lever(world, rng):
  """Follows the lever's end from pointing at the robot to pointing at -y."""
  pivot = np.array(world.layout.fixture_xy)
  reach = rng.uniform(0.070, 0.080)

  def beside(angle, gap):
    along = np.array([-np.cos(angle), -np.sin(angle)])
    across = np.array([-np.sin(angle), np.cos(angle)])
    return pivot + along * reach + across * gap

  yield _at(beside(0.0, 0.045), 0.14, 0.0, 1)
  yield _at(beside(0.0, 0.045), 0.052, 0.0, 1)
  last = rng.uniform(1.2, 1.4)
  for part in (0.35, 0.7, 1.0):
    yield _at(beside(part * last, 0.022), 0.052, 0.0, 1)
  yield _at(beside(last, 0.05), 0.11, 0.0, 1)


def _take_out(world, rng):
  yield from _pick(world, rng)
  yield from _carry(world, rng, world.layout.spot, GRASP + 0.004, 0.0)


def _rotate(world, rng):
  """Grasps, twists on the table by about 45 degrees, lets go."""
  yaw = _mod(world.yaw("block0"), np.pi / 2)
  turn = rng.uniform(0.72, 0.88) * (-1 if yaw > 0 else 1)
  yield from _pick(world, rng, yaw)
  x, y, z = world.arm.target[:3]
  yield _at((x, y), z + 0.003, yaw + turn, 1)
  yield _at((x, y), z + 0.001, yaw + turn, 0)
  yield _at((x, y), z + 0.09, yaw + turn, 0)


def _gather(world, rng):
  a, b = world.position("block0")[:2], world.position("block1")[:2]
  way = (b - a) / np.linalg.norm(b - a)
  yaw = _mod(np.arctan2(way[1], way[0]), np.pi)
  yaw = float(np.clip(yaw, -1.4, 1.4))
  start = a - way * (HALF + 0.044)
  yield from _sweep(world, rng, start, (a + b) / 2 - way * 0.07, yaw)
  # The block has turned a little by now: aim again.
  a, b = world.position("block0")[:2], world.position("block1")[:2]
  way = (b - a) / np.linalg.norm(b - a)
  end = b - way * (3 * HALF + 0.015)
  yield _at(end, SWEEP, yaw, 1)
  yield _at(end - way * 0.03, SWEEP + 0.06, yaw, 1)


PLANS = {
    "pick_place": _pick_place,
    "lift": _lift,
    "stack": _stack,
    "push": _displace("push"),
    "pull": _displace("pull"),
    "slide_left": _displace("slide_left"),
    "slide_right": _displace("slide_right"),
    "touch": _touch,
    "topple": _topple,
    "open_drawer": _open_drawer,
    "close_drawer": _close_drawer,
    "press_button": _press_button,
    "turn_lever": _turn_lever,
    "take_out": _take_out,
    "rotate": _rotate,
    "gather": _gather,
}


def _floor(world, xy) -> float:
  """Height that the open fingers keep to pass over whatever stands at xy."""
  layout = world.layout
  things = [(block.x, block.y, HALF, 2 * HALF) for block in layout.blocks]
  things += [(thing.x, thing.y, layouts.BIN_HALF, layouts.BIN_HEIGHT)
             for thing in layout.bins]
  if layout.fixture:
    things.append((*layout.fixture_xy, 0.10, 0.17))
  reach = 0.075  # of the open fingers, turned anyhow
  return max([SWEEP, *(
      height + 0.03 for x, y, half, height in things
      if max(abs(xy[0] - x), abs(xy[1] - y)) < half + reach)])


def wander(world: worlds.World,
           rng: np.random.Generator) -> Iterator[np.ndarray]:
  """Targets as of `actions`, from place to place and touching nothing.

  What a robot can do by itself, without anybody to show it anything: most
  places are as low as they can be, and the fingers open and close.
  """
  here = world.arm.target.copy()
  while True:
    places = [rng.uniform((0.32, -0.28), (0.62, 0.28)) for _ in range(8)]
    low = rng.random() < 0.6
    xy = min(places[:8 if low else 1], key=lambda xy: (
        _floor(world, xy), np.linalg.norm(xy - here[:2])))
    z = _floor(world, xy) + rng.uniform(0, 0.02 if low else 0.18)
    goal = _at(xy, z, rng.uniform(-0.75, 0.75), rng.random() < 0.5)
    speed = rng.uniform(0.3, 1.0) * control.MAX_MOVE
    steps = int(np.ceil(max(
        1, np.linalg.norm(goal[:3] - here[:3]) / speed,
        abs(goal[3] - here[3]) / control.MAX_TURN)))
    start = here
    for i in range(1, steps + 1):
      target = start + (goal - start) * (i / steps)
      # Up before it comes to a thing, down after it has left it.
      target[2] = max(target[2], *(
          _floor(world, place[:2]) for place in (here, target)))
      target[4] = goal[4]
      yield target.copy()
      here = target


def actions(world: worlds.World, verb: str,
            rng: np.random.Generator) -> Iterator[np.ndarray]:
  """Targets float[5], one per control step, without end.

  The caller steps the world with each target before asking for the next.
  The speed is 0.53 m/s; verbs without a carry have time to go slower.
  """
  speed = SPEED * (1 if verb in CARRIES else CALM)
  target = world.arm.target.copy()
  for goal in PLANS[verb](world, rng):
    start = target
    distance = np.linalg.norm(goal[:3] - start[:3])
    turn = abs(goal[3] - start[3])
    # A fifth of a step more speed saves a whole step for short rests.
    steps = max(
        1,
        np.ceil(distance / (control.MAX_MOVE * speed) - 0.2),
        np.ceil(distance / control.MAX_MOVE - 1e-6),
        np.ceil(turn / control.MAX_TURN - 1e-6),
    )
    for i in range(1, int(steps) + 1):
      target = start + (goal - start) * (i / steps)
      target[4] = goal[4]
      yield target.copy()
  while True:
    yield target.copy()
