"""Imports a LeRobot folder, v2.0, v2.1 or v3.

  python -m tfds_builders.lerobot.build --source=DIR --embodiment=gr1
      --output=DIR

Prints what was found and what was odd. A killed import goes on where it
stopped when the same command is run again.
"""

import sys
from collections.abc import Sequence

from absl import flags

from dreamgen_jax import errors, registry
from dreamgen_jax.data import lerobot, rlds
from tfds_builders import command, importing


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


def _define(given: flags.FlagValues) -> None:
  for name, text in (
      ("source", "the LeRobot folder"),
      ("embodiment", "a module of dreamgen_jax/embodiments, e.g. gr1"),
  ):
    flags.DEFINE_string(name, None, text, flag_values=given)
  flags.DEFINE_list(
      "cameras", [],
      "camera=video_key pairs, where names do not tell which video is meant",
      flag_values=given)
  importing.define(given, "lerobot")


def _body(given: flags.FlagValues) -> None:
  cameras = {}
  for pair in given.cameras:
    camera, equals, key = pair.partition("=")
    if not equals:
      raise errors.ConfigError(
          f"--cameras takes camera=video_key pairs, not {pair!r}.")
    cameras[camera] = key
  build(given.source, given.embodiment, importing.settings(given), cameras)


def main(argv: Sequence[str] | None = None) -> int:
  """The program; returns the exit code."""
  return command.run(argv, __doc__, _define,
                     ("source", "embodiment", "output"), _body)


if __name__ == "__main__":
  sys.exit(main())
