"""Imports a LeRobot v2.0 or v2.1 folder.

  python -m tfds_builders.lerobot.build --source=DIR --embodiment=gr1
      --output=DIR

Prints what was found and what was odd. A killed import goes on where it
stopped when the same command is run again.
"""

import sys
from collections.abc import Sequence

from absl import flags

from dreamgen_jax import errors, registry
from dreamgen_jax.data import lerobot, rlds, shards
from tfds_builders import command


def build(source: str, embodiment: str, output: str, name: str = "lerobot",
          cameras: dict[str, str] | None = None,
          episodes_per_shard: int = 64) -> rlds.Dataset:
  """Writes the folder `source` as a dataset of episodes.

  Raises:
    DataError: nothing usable in the folder.
    ConfigError: unknown embodiment.
  """
  robot = registry.find("embodiments", embodiment).EMBODIMENT
  folder = lerobot.Folder(source, robot, cameras)
  print(f"{source}: {len(folder)} episodes, cameras {folder.cameras}, "
        f"{folder.clock}")
  for finding in folder.findings:
    print(f"  odd: {finding}")
  dataset = rlds.write(
      output, name, folder.ids, robot,
      cameras=list(folder.cameras),
      num_shards=-(-len(folder) // episodes_per_shard),
      digest=shards.digest_of(folder.fingerprint()),
      metadata={"source": "lerobot", "findings": folder.findings},
      make=folder.episode,
  )
  frames, steps = dataset.lengths.sum(axis=0).tolist()
  print(f"{output}: {len(dataset)} episodes, {frames} frames, {steps} steps, "
        f"digest {dataset.digest[:12]}")
  return dataset


def _define(given: flags.FlagValues) -> None:
  for name, text in (
      ("source", "the LeRobot folder"),
      ("embodiment", "a module of dreamgen_jax/embodiments, e.g. gr1"),
      ("output", "folder of the new dataset"),
  ):
    flags.DEFINE_string(name, None, text, flag_values=given)
  flags.DEFINE_string("name", "lerobot", "name of the new dataset",
                      flag_values=given)
  flags.DEFINE_list(
      "cameras", [],
      "camera=video_key pairs, where names do not tell which video is meant",
      flag_values=given)
  flags.DEFINE_integer("episodes_per_shard", 64, "episodes of one file",
                       lower_bound=1, flag_values=given)


def _body(given: flags.FlagValues) -> None:
  cameras = {}
  for pair in given.cameras:
    camera, equals, key = pair.partition("=")
    if not equals:
      raise errors.ConfigError(
          f"--cameras takes camera=video_key pairs, not {pair!r}.")
    cameras[camera] = key
  build(given.source, given.embodiment, given.output, given.name, cameras,
        given.episodes_per_shard)


def main(argv: Sequence[str] | None = None) -> int:
  """The program; returns the exit code."""
  return command.run(argv, __doc__, _define,
                     ("source", "embodiment", "output"), _body)


if __name__ == "__main__":
  sys.exit(main())
