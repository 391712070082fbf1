"""Stage: a dataset that others recorded takes the place of demonstrations.

config.dataset names it (`data.catalogue`), config.path says where it lies if
not at home. It is read in place; the folder keeps an index and what was found.
Bad episodes are left out or fatal (config.on_problem), but for the kinds in
config.keep, and counted.
"""

import pathlib
from typing import Any

from dreamgen_jax import metrics
from dreamgen_jax.data import catalogue, checks
from dreamgen_jax.stages import artefact

ALONE = True  # one host does it


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Reads all records once, unless that was done before."""
  del inputs
  given = catalogue.foreign(config.dataset)
  shown: list[metrics.Progress] = []

  def progress(done: int, total: int) -> None:
    if not shown:
      shown.append(metrics.Progress(folder.name, total, "file"))
    shown[0].advance()

  found = catalogue.point(
      folder / "data", given, config.path, split=config.split,
      on_problem=config.on_problem, keep=tuple(config.keep), progress=progress)
  checks.listed(found.problems, say=lambda line: print(
      f"[{folder.name}] {line}", flush=True))
  artefact.write_json(folder / "problems.json", {
      "problems": [vars(problem) for problem in found.problems]})
  return {"episodes": len(found), "steps": int(found.index["steps"].sum()),
          "problems": found.counts(), "digest": found.digest}
