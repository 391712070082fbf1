"""Writes a dataset of episodes as a LeRobot folder.

  python -m tfds_builders.lerobot.export --dataset=DIR --output=DIR
      --version=v3.0

Rejected episodes are left out. GR00T reads v2.0 and v2.1, the lerobot package
since 0.4 reads v3.0.
"""

import sys
from typing import Any

from dreamgen_jax import options
from dreamgen_jax.data import lerobot_export, rlds


def export(dataset: str, output: str, version: str = "v3.0") -> None:
  """Writes the kept episodes of the dataset's folder `dataset`.

  Raises:
    DataError: no such dataset, or `output` exists.
  """
  data = rlds.Dataset(dataset)
  kept = [i for i in range(len(data)) if data.index["kept"][i]]
  lerobot_export.write(output, map(data.episode, kept), data.embodiment,
                       version)
  print(f"{output}: LeRobot {version}, {len(kept)} of {len(data)} episodes")


@options.program(__doc__, {
    "dataset": "the dataset's folder",
    "output": "folder to write; must not exist yet",
    "version": ("v3.0", "of LeRobot", lerobot_export.VERSIONS),
}, required=("dataset", "output"))
def main(given: Any) -> None:
  """Runs the program."""
  export(given.dataset, given.output, given.version)


if __name__ == "__main__":
  sys.exit(main())
