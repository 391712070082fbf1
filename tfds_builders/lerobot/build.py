"""Imports a LeRobot folder, v2.0, v2.1 or v3.

  python -m tfds_builders.lerobot.build --source=DIR --embodiment=gr1
      --output=DIR

Prints what was found and what was odd. A killed import goes on where it
stopped when the same command is run again.
"""

import sys
from typing import Any

from dreamgen_jax import errors, options, registry
from dreamgen_jax.data import lerobot, rlds
from tfds_builders import importing


def build(source: str, embodiment: str, settings: importing.Settings,
          cameras: dict[str, str] | None = None) -> rlds.Dataset:
  """Writes the folder `source` as a dataset of episodes.

  Raises:
    DataError: nothing usable in the folder, or a problem that is fatal.
    ConfigError: unknown embodiment.
  """
  robot = registry.find("embodiments", embodiment).EMBODIMENT
  report = settings.report()
  return importing.write(
      lerobot.Folder(source, robot, cameras, report), report, settings)


@options.program(__doc__, {
    "source": "the LeRobot folder",
    "embodiment": "a module of dreamgen_jax/embodiments, e.g. gr1",
    "cameras": ((), "camera=video_key pairs, where names do not tell which "
                "video is meant"),
    **importing.options("lerobot"),
}, required=("source", "embodiment", "output"))
def main(given: Any) -> None:
  """Runs the program."""
  cameras = {}
  for pair in given.cameras:
    camera, equals, key = pair.partition("=")
    if not equals:
      raise errors.ConfigError(
          f"--cameras takes camera=video_key pairs, not {pair!r}.")
    cameras[camera] = key
  build(given.source, given.embodiment, importing.settings(given), cameras)


if __name__ == "__main__":
  sys.exit(main())
