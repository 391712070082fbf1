"""Collects demonstrations in the embedded tabletop simulator.

  python -m tfds_builders.tabletop.build --robot=panda --verbs=lift,stack
      --episodes=200 --output=DIR

Demonstrations that fail are left out. A killed run goes on where it stopped
when the same command is run again.
"""

import sys
from collections.abc import Sequence

from absl import flags

from dreamgen_jax import registry
from dreamgen_jax.data import rlds, shards
from tfds_builders import command
from tfds_builders.tabletop import demonstrations


def build(output: str, robot: str = "panda", verbs: Sequence[str] = (),
          scenes: Sequence[str] = (), episodes: int = 100, first_seed: int = 0,
          length: int = 17, image_size: int = 64,
          episodes_per_shard: int = 64) -> rlds.Dataset:
  """Writes a dataset of demonstrations.

  Raises:
    ConfigError: unknown robot, verb or scene.
    DataError: the folder holds another dataset, or every expert failed.
  """
  layout = registry.find("embodiments", f"tabletop_{robot}").EMBODIMENT
  if not (verbs and scenes):
    all_verbs, all_scenes = demonstrations.choices()
    verbs, scenes = verbs or all_verbs, scenes or all_scenes
  work = demonstrations.plan(robot, verbs, scenes, episodes, first_seed)
  settings = {"length": length, "image_size": image_size}
  dataset = rlds.write(
      output, "tabletop", list(work), layout,
      num_shards=-(-len(work) // episodes_per_shard),
      digest=shards.digest_of([work, settings]),
      metadata=settings,
      make=lambda name: demonstrations.make(name, work[name], **settings),
  )
  print(f"{output}: {len(dataset)} of {len(work)} demonstrations succeeded, "
        f"digest {dataset.digest[:12]}")
  return dataset


def _define(given: flags.FlagValues) -> None:
  flags.DEFINE_string("output", None, "folder of the dataset",
                      flag_values=given)
  flags.DEFINE_string("robot", "panda", "robot of the tabletop",
                      flag_values=given)
  flags.DEFINE_list("verbs", [], "verbs; none means all", flag_values=given)
  flags.DEFINE_list("scenes", [], "scenes; none means all", flag_values=given)
  for name, value, text in (
      ("episodes", 100, "number of demonstrations"),
      ("first_seed", 0, "seed of the first one"),
      ("length", 17, "frames of each"),
      ("image_size", 64, "pixels of each image's side"),
      ("episodes_per_shard", 64, "episodes of one file; unit of resuming"),
  ):
    flags.DEFINE_integer(name, value, text, flag_values=given,
                         lower_bound=0 if name == "first_seed" else 1)


def _body(given: flags.FlagValues) -> None:
  build(given.output, given.robot, given.verbs, given.scenes, given.episodes,
        given.first_seed, given.length, given.image_size,
        given.episodes_per_shard)


def main(argv: Sequence[str] | None = None) -> int:
  """The program; returns the exit code."""
  return command.run(argv, __doc__, _define, ("output",), _body)


if __name__ == "__main__":
  sys.exit(main())
