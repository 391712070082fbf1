"""Collects demonstrations in the embedded tabletop simulator.

  python -m tfds_builders.tabletop.build --robot=panda --verbs=lift,stack
      --episodes=200 --output=DIR

Demonstrations that fail are left out. A killed run goes on where it stopped
when the same command is run again.
"""

import sys
from collections.abc import Sequence
from typing import Any

from dreamgen_jax import options, registry
from dreamgen_jax.data import rlds, shards
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


@options.program(__doc__, {
    "output": "folder of the dataset",
    "robot": ("panda", "robot of the tabletop"),
    "verbs": ((), "verbs; none means all"),
    "scenes": ((), "scenes; none means all"),
    "episodes": (100, "number of demonstrations", 1),
    "first_seed": (0, "seed of the first one", 0),
    "length": (17, "frames of each", 1),
    "image_size": (64, "pixels of each image's side", 1),
    "episodes_per_shard": (64, "episodes of one file; unit of resuming", 1),
}, required=("output",))
def main(given: Any) -> None:
  """Runs the program."""
  build(given.output, given.robot, given.verbs, given.scenes, given.episodes,
        given.first_seed, given.length, given.image_size,
        given.episodes_per_shard)


if __name__ == "__main__":
  sys.exit(main())
