"""Sixteen verbs: what is said, when it is done, how far it has come.

Left and right are as seen in the image of the front camera, which looks at
the robot from its right front: left is -y, right is +y, away is +x. Contact
verbs ask that the block was never lifted, so that a pick-and-place that ends
in the right place does not count.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from dreamgen_jax.sims.tabletop import layout as layouts
from dreamgen_jax.sims.tabletop import world as worlds

# Pick-and-place does these on its way; never count them as novel verbs.
SUB_SKILLS = ("lift", "touch")

HALF = layouts.HALF
ON_TABLE = 0.02  # m that a block may rise and still count as never lifted


@dataclasses.dataclass(frozen=True)
class Task:
  """A verb.

  Attributes:
    phrases: instructions with {a}, {b} (block colours) and {bin}; the first is
      canonical.
    success: whether the world is in the goal state now.
    fraction: how far the world has come, in [0, 1].
  """

  phrases: tuple[str, ...]
  success: Callable[[worlds.World], bool]
  fraction: Callable[[worlds.World], float]

  def instruction(self, layout: layouts.Layout, paraphrase: int = 0) -> str:
    """Lower-case ASCII; paraphrases are counted modulo their number."""
    phrase = self.phrases[paraphrase % len(self.phrases)]
    first, second = layout.blocks
    return phrase.format(a=first.colour, b=second.colour,
                         bin=layout.bins[0].colour)

  def progress(self, world: worlds.World) -> float:
    """Partial credit in [0, 1]: 0.3 for getting there, 1 for success."""
    if self.success(world):
      return 1.0
    share = float(np.clip(self.fraction(world), 0, 1))
    return 0.3 * world.near + 0.6 * share


def _low(world) -> bool:
  return world.lifted() < ON_TABLE


def _displaced(verb: str):
  """(success, fraction) of sliding a block more than 6 cm along a direction."""
  way = np.array(layouts.DIRECTIONS[verb])

  def success(world):
    moved = world.moved()[:2]
    along = moved @ way
    return bool(_low(world) and along > 0.06
                and along > 0.8 * np.linalg.norm(moved))

  def fraction(world):
    return world.moved()[:2] @ way / 0.06 if _low(world) else 0.0

  return success, fraction


def _pick_place(world):
  return world.in_bin(0) and world.released


def _pick_place_fraction(world):
  thing = world.layout.bins[0]
  goal = np.array([thing.x, thing.y])
  first = np.linalg.norm(world.start["block0"][:2] - goal)
  now = np.linalg.norm(world.position("block0")[:2] - goal)
  return 0.5 * (world.lifted() > 0.03) + 0.5 * max(0, 1 - now / first)


def _stack(world):
  offset = world.position("block0") - world.position("block1")
  return bool(world.released and np.hypot(*offset[:2]) < HALF
              and abs(offset[2] - 2 * HALF) < 0.012)


def _stack_fraction(world):
  offset = world.position("block0") - world.position("block1")
  return (0.5 * (world.lifted() > 0.03)
          + 0.5 * max(0, 1 - np.hypot(*offset[:2]) / 0.15))


def _touch(world):
  return bool(world.touching() and np.linalg.norm(world.moved()) < 0.02)


def _turned(world) -> float:
  apart = world.yaw("block0") - world.start_yaw
  return abs(np.arctan2(np.sin(apart), np.cos(apart)))


def _rotate(world):
  return bool(_turned(world) > 0.5 and np.linalg.norm(world.moved()) < 0.035
              and _low(world) and world.released)


def _take_out(world):
  x, y, z = world.position("block0")
  outside = all(
      max(abs(x - thing.x), abs(y - thing.y)) > layouts.BIN_HALF + 0.02
      for thing in world.layout.bins
  )
  return bool(outside and world.released and z < HALF + 0.008)


def _take_out_fraction(world):
  thing = world.layout.bins[0]
  x, y, _ = world.position("block0")
  away = max(abs(x - thing.x), abs(y - thing.y))
  return 0.5 * (world.lifted() > 0.03) + 0.5 * min(1, away / 0.09)


def _gap(world) -> float:
  offset = world.position("block0") - world.position("block1")
  return float(np.linalg.norm(offset[:2]))


def _gather(world):
  return bool(_low(world) and world.lifted("block1") < ON_TABLE
              and _gap(world) < 0.09 and np.hypot(*world.moved()[:2]) > 0.03
              and np.hypot(*world.moved("block1")[:2]) < 0.05)


def _gather_fraction(world):
  first = np.linalg.norm((world.start["block0"] - world.start["block1"])[:2])
  return (first - _gap(world)) / (first - 0.09) if _low(world) else 0.0


TASKS = {
    "pick_place": Task((
        "pick up the {a} block and place it in the {bin} bin",
        "put the {a} block into the {bin} bin",
        "move the {a} block to the {bin} bin",
        "grab the {a} block and drop it in the {bin} bin",
    ), _pick_place, _pick_place_fraction),
    "lift": Task((
        "lift the {a} block",
        "raise the {a} block off the table",
        "hold the {a} block up in the air",
    ), lambda w: w.moved()[2] > 0.07, lambda w: w.moved()[2] / 0.07),
    "stack": Task((
        "stack the {a} block on the {b} block",
        "put the {a} block on top of the {b} block",
        "build a tower with the {a} block above the {b} block",
    ), _stack, _stack_fraction),
    "push": Task((
        "push the {a} block away from the robot",
        "push the {a} block forward",
        "shove the {a} block away from the base",
    ), *_displaced("push")),
    "pull": Task((
        "pull the {a} block toward the robot",
        "drag the {a} block back to the base",
        "pull the {a} block closer to the arm",
    ), *_displaced("pull")),
    "slide_left": Task((
        "slide the {a} block to the left",
        "push the {a} block left",
        "move the {a} block left along the table",
    ), *_displaced("slide_left")),
    "slide_right": Task((
        "slide the {a} block to the right",
        "push the {a} block right",
        "move the {a} block right along the table",
    ), *_displaced("slide_right")),
    "touch": Task((
        "touch the {a} block",
        "tap the top of the {a} block",
        "put the fingertips on the {a} block",
    ), _touch, lambda w: 1 - np.linalg.norm(
        w.tip - w.position("block0")) / 0.2),
    "topple": Task((
        "knock over the pink pillar",
        "topple the pink pillar",
        "tip the pink tower over",
    ), lambda w: w.upright("pillar") < 0.4,
        lambda w: 1 - w.upright("pillar")),
    "open_drawer": Task((
        "open the drawer",
        "pull the drawer open",
        "slide the drawer out by its handle",
    ), lambda w: w.joint("drawer") > 0.07, lambda w: w.joint("drawer") / 0.07),
    "close_drawer": Task((
        "close the drawer",
        "push the drawer shut",
        "slide the drawer back in",
    ), lambda w: w.joint("drawer") < 0.02,
        lambda w: 1 - w.joint("drawer") / worlds.DRAWER_OPEN),
    "press_button": Task((
        "press the red button",
        "push down the red button",
        "hit the red button",
    ), lambda w: w.joint("button") > 0.012,
        lambda w: w.joint("button") / 0.012),
    "turn_lever": Task((
        "turn the yellow lever",
        "rotate the yellow handle",
        "swing the yellow lever around",
    ), lambda w: w.joint("lever") > 0.8, lambda w: w.joint("lever") / 0.8),
    "take_out": Task((
        "take the {a} block out of the {bin} bin",
        "remove the {a} block from the {bin} bin",
        "get the {a} block out of the {bin} bin and put it on the table",
    ), _take_out, _take_out_fraction),
    "rotate": Task((
        "rotate the {a} block",
        "turn the {a} block in place",
        "twist the {a} block around",
    ), _rotate, lambda w: _turned(w) / 0.5),
    "gather": Task((
        "push the {a} block next to the {b} block",
        "bring the {a} block together with the {b} block",
        "gather the {a} block and the {b} block",
    ), _gather, _gather_fraction),
}
VERBS = tuple(TASKS)
