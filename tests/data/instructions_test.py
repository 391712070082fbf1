"""Tests of instructions: made from words, read from lists, counted."""

import pytest

from dreamgen_jax import errors
from dreamgen_jax.data import instructions

WORDS = dict(verb=["push", "pull", "pull out"], object=["red cup", "drawer"])


def test_templates_take_every_combination():
  found = instructions.from_templates(
      ["{verb} the {object}", "open the {object}", "wave"], WORDS)
  assert len(found) == 3 * 2 + 2 + 1
  assert found[0].text == "push the red cup"
  assert found[0].words == {"verb": "push", "object": "red cup"}
  with pytest.raises(errors.ConfigError, match="names 'colour'.*verb, object"):
    instructions.from_templates(["{colour} {verb}"], WORDS)


def test_lists_lose_their_bullets_and_doubles(tmp_path):
  file = tmp_path / "list.txt"
  file.write_text('1. Push the red cup.\n- "push  the RED cup"\n\n'
                  "* pull out the drawer\n7 cups are there\n")
  found = instructions.distinct(instructions.from_file(file, WORDS))
  assert [each.text for each in found] == [
      "Push the red cup.", "pull out the drawer", "7 cups are there"]
  assert found[1].words == {"verb": "pull out", "object": "drawer"}
  assert found[2].words == {}
  file.write_text("\n")
  with pytest.raises(errors.DataError, match="is empty"):
    instructions.from_file(file, WORDS)
  with pytest.raises(errors.DataError, match="cannot be read"):
    instructions.from_file(tmp_path / "none.txt", WORDS)


def test_coverage_names_what_is_missing():
  rows = [dict(verb="push", object="red cup", scene="lab")] * 2 + [
      dict(verb="pull", scene="lab")]
  found = instructions.coverage(rows, WORDS)
  assert found["counts"] == {
      "push x red cup x lab": 2, "pull x ? x lab": 1}
  assert "push x drawer x lab" in found["missing"]
  assert found["covered"] == pytest.approx(1 / 6)
