"""Runs the stages of a config.

  python -m dreamgen_jax.main --config=FILE.py[:arg] --workdir=DIR
      [--stage=NAME] [--config.some.key=value ...] [--debug]

Every stage keeps its result under the workdir; a rerun skips what is done and
continues what was interrupted. On several hosts, start the same command on
each; the workdir is a disk that all of them share.
"""

import pathlib
import sys
from typing import Any

from dreamgen_jax import errors, options, registry

HELP = {
    "config": "config file, e.g. configs/quickstart.py",
    "workdir": "folder that keeps the results, e.g. runs/quickstart",
    "stage": "run only this stage of the config",
    "profile_steps": ("", "trace these steps of every training, e.g. 10:13"),
    "tensorboard": (False, "write TensorBoard files beside the histories"),
    "wandb": ("", "project of Weights & Biases to log to"),
}


@options.program(__doc__, HELP, ("config", "workdir"))
def main(given: Any, overrides: Any) -> None:
  """Runs the program."""
  if "://" in given.workdir:
    raise errors.ConfigError(
        f"Workdir {given.workdir!r} is no folder: results are renamed and "
        "mapped into memory, which object stores cannot do. Mount the bucket "
        "(launch/README.md says how), or a network disk, and name that folder.")
  config = options.load(given.config, overrides)
  known = options.stages(config)
  if given.stage and given.stage not in known:
    raise errors.ConfigError(
        f"Unknown stage {given.stage!r}; {given.config} has: "
        f"{', '.join(known) or 'none'}."
        + registry.nearest(given.stage, known)
    )
  from dreamgen_jax import monitor  # late: mistakes show before JAX
  from dreamgen_jax.stages import pipeline

  wishes = monitor.Wishes(
      given.tensorboard, given.wandb,
      monitor.profile_steps(given.profile_steps))
  wishes.check()
  with monitor.wishing(wishes):
    pipeline.run(config, pathlib.Path(given.workdir), given.stage)


if __name__ == "__main__":
  sys.exit(main())
