"""Writes a dataset of episodes as a LeRobot folder.

  python -m tfds_builders.lerobot.export --dataset=DIR --output=DIR
      --version=v3.0

Rejected episodes are left out. GR00T reads v2.0 and v2.1, the lerobot package
since 0.4 reads v3.0.
"""

import sys
from collections.abc import Sequence

from absl import flags

from dreamgen_jax.data import lerobot_export, rlds
from tfds_builders import command


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


def _define(given: flags.FlagValues) -> None:
  for name, text in (("dataset", "the dataset's folder"),
                     ("output", "folder to write; must not exist yet")):
    flags.DEFINE_string(name, None, text, flag_values=given)
  flags.DEFINE_enum("version", "v3.0", lerobot_export.VERSIONS, "of LeRobot",
                    flag_values=given)


def main(argv: Sequence[str] | None = None) -> int:
  """The program; returns the exit code."""
  return command.run(
      argv, __doc__, _define, ("dataset", "output"),
      lambda given: export(given.dataset, given.output, given.version))


if __name__ == "__main__":
  sys.exit(main())
