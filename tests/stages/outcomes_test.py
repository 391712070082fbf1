"""Rates, comparisons and tables of trials."""

import csv
import json

import pytest

from dreamgen_jax.stages import outcomes


def rows(policy, verb, *successes):
  return [{"policy": policy, "verb": verb, "seed": seed, "success": success,
           "progress": 0.5} for seed, success in enumerate(successes)]


ROWS = (rows("a", "push", False, False, True) + rows("a", "pull", False)
        + rows("b", "push", True, True, True) + rows("b", "pull", False))


def test_rates():
  table = outcomes.summarize(ROWS, ["push", "pull"], ["pull"])
  assert table["a"]["all"]["successes"] == 1
  assert table["b"]["push"]["trials"] == 3
  assert table["b"]["novel"]["successes"] == 0
  assert table["a"]["push"]["low"] < 1 / 3 < table["a"]["push"]["high"]


def test_policies_are_compared_on_the_same_verb_and_seed():
  (line,) = outcomes.compare(ROWS[:2] + ROWS[3:])  # a lacks push 2
  assert (line["first"], line["second"], line["pairs"]) == ("a", "b", 3)
  assert (line["only_first"], line["only_second"]) == (0, 2)
  assert line["difference"] == pytest.approx(2 / 3)
  assert line["low"] < line["difference"] < line["high"] <= 1


def test_files(tmp_path):
  table = outcomes.summarize(ROWS, ["push", "pull"], ["pull"])
  outcomes.write(tmp_path, table, outcomes.compare(ROWS))
  held = json.loads((tmp_path / "table.json").read_text())
  assert held["table"] == table and len(held["comparisons"]) == 1
  with (tmp_path / "table.csv").open() as file:
    lines = list(csv.DictReader(file))
  assert len(lines) == 8
  assert lines[0]["policy"] == "a" and lines[0]["successes"] == "1"
