"""What trials say: rates with intervals, and who is better on the same seeds.
"""

import csv
import dataclasses
import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from dreamgen_jax import statistics
from dreamgen_jax.stages import artefact

Rows = Sequence[dict[str, Any]]  # of trials: policy, verb, seed, success, ...
COLUMNS = ("successes", "trials", "low", "high", "progress")


def summarize(rows: Rows, verbs: Sequence[str],
              novel: Sequence[str]) -> dict[str, dict[str, Any]]:
  """policy -> verb (and "novel", "all") -> successes, trials, interval."""
  groups = {verb: [verb] for verb in verbs} | {"novel": novel, "all": verbs}
  table: dict[str, dict[str, Any]] = {}
  for policy in dict.fromkeys(row["policy"] for row in rows):
    for name, members in groups.items():
      found = [row for row in rows
               if row["policy"] == policy and row["verb"] in members]
      if found:
        successes = sum(row["success"] for row in found)
        low, high = statistics.wilson(successes, len(found))
        table.setdefault(policy, {})[name] = {
            "successes": successes, "trials": len(found), "low": low,
            "high": high,
            "progress": float(np.mean([row["progress"] for row in found]))}
  return table


def compare(rows: Rows) -> list[dict[str, Any]]:
  """Every two policies, trial by trial with the same verb and seed."""
  found: dict[str, dict[tuple[str, int], bool]] = {}
  for row in rows:
    found.setdefault(row["policy"], {})[row["verb"], row["seed"]] = (
        row["success"])
  lines = []
  for first, second in itertools.combinations(found, 2):
    shared = [key for key in found[first] if key in found[second]]
    if shared:
      lines.append({
          "first": first, "second": second, "pairs": len(shared)
      } | dataclasses.asdict(statistics.paired(
          *([found[name][key] for key in shared]
            for name in (first, second)))))
  return lines


def write(folder: pathlib.Path, table: dict[str, dict[str, Any]],
          comparisons: list[dict[str, Any]]) -> None:
  """table.json, and table.csv with a line per policy and task."""
  artefact.write_json(folder / "table.json", {
      "table": table, "comparisons": comparisons})
  with (folder / "table.csv").open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(("policy", "task", *COLUMNS))
    for policy, line in table.items():
      for task, cell in line.items():
        writer.writerow((policy, task, *(cell[name] for name in COLUMNS)))
