"""Tests of the two sides of a race."""

import sys

import pytest

from dreamgen_jax.benchmarks import turns

_SERVE = """
import sys
from dreamgen_jax.benchmarks import turns

def work(task):
  print("noise")  # is no answer
  if task == "stop":
    sys.exit()
  return sum(range(int(task)))

turns.serve(turns.ByName(work))
"""


def test_sides_answer_and_the_cheapest_round_counts():
  sides = {name: turns.Side([sys.executable, "-c", _SERVE])
           for name in ("one", "other")}
  found = turns.race(sides, "200000", rounds=2, by="cpu")
  for row in found.values():
    assert row["value"] == row["first"] == sum(range(200_000))
    assert 0 < row["cpu"] < 60 and 1 < row["peak_mib"] < 1000
  with pytest.raises(RuntimeError, match="ended early"):
    sides["one"].run("stop")
  for side in sides.values():
    side.close()
