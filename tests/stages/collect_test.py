"""Tests of who demonstrates what, and how it is said."""

from configs import common
from dreamgen_jax.stages import collect


def test_every_verb_is_said_in_every_way():
  turns = collect._turns(common.section(
      robots=("panda", "ur"), verbs=("push", "pull", "stack"),
      scenes=("wood",), episodes=36, paraphrases=3))
  assert len(set(turns)) == 18
  assert all(turns.count(turn) == 2 for turn in turns)
