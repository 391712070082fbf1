"""How sure a success rate is: intervals and paired comparison (plain math)."""

import dataclasses
import math
from collections.abc import Sequence


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
  """Wilson score interval of a success rate; z = 1.96 gives 95 %.

  Unlike the normal interval it is sensible at 0 and 100 %: 0 of 10 gives
  [0, 0.278]. Without trials nothing is known: [0, 1]. Source: Wilson, 1927.

  Raises:
    ValueError: successes is not in [0, trials].
  """
  if not 0 <= successes <= trials:
    raise ValueError(f"{successes} successes of {trials} trials cannot be.")
  if trials == 0:
    return 0.0, 1.0
  rate = successes / trials
  denominator = 1 + z**2 / trials
  center = (rate + z**2 / (2 * trials)) / denominator
  half = z / denominator * math.sqrt(
      rate * (1 - rate) / trials + z**2 / (4 * trials**2))
  return max(0.0, center - half), min(1.0, center + half)


@dataclasses.dataclass(frozen=True)
class Paired:
  """Two policies on the same seeds.

  Attributes:
    difference: success rate of the second minus that of the first.
    low, high: its 95 % interval (Agresti and Min, 2005: half a trial is added
      to each of the four outcomes).
    only_first, only_second: trials that just one of them solved.
    p_value: exact two-sided McNemar test of "equally good".
  """

  difference: float
  low: float
  high: float
  only_first: int
  only_second: int
  p_value: float


def paired(first: Sequence[bool], second: Sequence[bool]) -> Paired:
  """Compares two lists of successes, entry by entry on the same seed.

  Raises:
    ValueError: the lists are empty or not equally long.
  """
  if len(first) != len(second) or not len(first):
    raise ValueError(
        f"A paired comparison needs two equally long lists of trials, got "
        f"{len(first)} and {len(second)}.")
  pairs = [(bool(a), bool(b)) for a, b in zip(first, second, strict=True)]
  only_first = sum(a and not b for a, b in pairs)
  only_second = sum(b and not a for a, b in pairs)
  discordant = only_first + only_second
  tail = sum(
      math.comb(discordant, k) for k in range(min(only_first, only_second) + 1))
  count = len(pairs) + 2
  center = (only_second - only_first) / count
  half = 1.96 * math.sqrt(
      (discordant + 1) / count - center**2) / math.sqrt(count)
  return Paired(
      difference=(only_second - only_first) / len(pairs),
      low=max(-1.0, center - half),
      high=min(1.0, center + half),
      only_first=only_first,
      only_second=only_second,
      p_value=min(1.0, 2 * tail / 2**discordant),
  )
