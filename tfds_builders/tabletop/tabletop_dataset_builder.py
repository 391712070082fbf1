"""The tabletop as a stock TFDS dataset; importing this module registers it.

  from tfds_builders.tabletop import tabletop_dataset_builder
  builder = tabletop_dataset_builder.Builder(
      config="panda", data_dir=DIR, file_format="array_record")
  builder.download_and_prepare()  # no TensorFlow

`build.py` beside it writes the same records, and can be resumed.
"""

import dataclasses

import tensorflow_datasets as tfds

from dreamgen_jax import registry
from dreamgen_jax.data import record
from tfds_builders.tabletop import demonstrations

_PREFIX = "tabletop_"


@dataclasses.dataclass(kw_only=True)
class Config(tfds.core.BuilderConfig):
  """One robot's demonstrations; empty verbs and scenes mean all.

  A config of one's own needs a `name` that is not a robot's.
  """

  robot: str = "panda"
  episodes: int = 100
  first_seed: int = 0
  verbs: tuple[str, ...] = ()
  scenes: tuple[str, ...] = ()
  image_size: int = 64


class Builder(tfds.core.GeneratorBasedBuilder):
  """Demonstrations of the scripted experts."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012, as TFDS reads it
  BUILDER_CONFIGS = [  # noqa: RUF012, as TFDS reads it
      Config(name=name.removeprefix(_PREFIX),
             robot=name.removeprefix(_PREFIX))
      for name in registry.names("embodiments") if name.startswith(_PREFIX)
  ]

  def _info(self) -> tfds.core.DatasetInfo:
    robot = self._robot()
    return tfds.core.DatasetInfo(
        builder=self,
        features=record.features(robot, list(robot.cameras)),
        metadata=tfds.core.MetadataDict(
            record.identity(robot, list(robot.cameras))),
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # nothing is downloaded
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    config, robot = self.builder_config, self._robot()
    verbs, scenes = config.verbs, config.scenes
    if not (verbs and scenes):
      all_verbs, all_scenes = demonstrations.choices()
      verbs, scenes = verbs or all_verbs, scenes or all_scenes
    work = demonstrations.plan(
        config.robot, verbs, scenes, config.episodes, config.first_seed)
    for name, spec in work.items():
      episode = demonstrations.make(name, spec, image_size=config.image_size)
      if episode is not None:
        yield name, record.to_record(episode, robot)

  def _robot(self):
    name = _PREFIX + self.builder_config.robot
    return registry.find("embodiments", name).EMBODIMENT
