"""Stage: one table of trainings that differ in what they left out.

Reads any number of finished stages of one kind, such as labelers that were
each measured on the episode they had not seen; tells every number they have in
common by its mean and its range over them.
"""

import pathlib
from typing import Any

import numpy as np

from dreamgen_jax.stages import artefact

ALONE = True  # one host does it


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """metric -> mean, low and high over the inputs."""
  del config
  found = [artefact.read_json(path / artefact.DONE)["metrics"]
           for path in inputs.values()]
  table = {}
  for name in sorted(set.intersection(*map(set, found))):
    values = [metrics[name] for metrics in found]
    table[name] = {"mean": float(np.mean(values)), "low": min(values),
                   "high": max(values)}
    print(f"[{folder.name}] {name}: {table[name]['mean']:.3f} "
          f"({table[name]['low']:.3f} to {table[name]['high']:.3f})",
          flush=True)
  return table
