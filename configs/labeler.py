"""An inverse dynamics model of any robot, from any RLDS dataset.

Command: python -m dreamgen_jax.main --config=configs/labeler.py \\
           --config.dataset=my_arm.py --config.path=DIR --workdir=runs/my_arm
Others:  --config.dataset=droid, or any other that
           `python -m dreamgen_jax.data.inspect --help` lists
         --config.gap=16 frames from a pair's first to its second; else as
           many as a fifth of a second has, which suffices where the robot is at
           the next frame where it was told to be at this one
         --config.preset=groot_dreams the released size
Hardware: 2 CPU cores, 8 GB for the nano preset; minutes.

A twentieth of the episodes, which their content decides, is held out. Episodes
without an instruction are learnt from all the same; others that have a problem
are left out and counted (--config.demonstrations.on_problem=fatal stops).
"""

from configs import common
from dreamgen_jax.data import catalogue

ARGUMENTS = dict(dataset="bridge_dataset", path="", preset="nano", gap=0,
                 steps=2000)
_GAP = 0.2  # seconds


def get_config(arg=None):
  """Cameras, rates and the row of the labeler follow from the dataset."""
  options = common.parse_arg(arg, ARGUMENTS)
  given = catalogue.foreign(options.dataset)
  robot = given.embodiment
  gap = options.gap or max(1, round(_GAP * robot.clock.video_hz))
  nano = common.LABELERS["idm_nano"]["model"]
  source = dict(
      stage="source", dataset=options.dataset, path=options.path,
      on_problem="skip", keep=("instruction",))
  config = common.section(seed=0)
  config.demonstrations = common.section(split="train", **source)
  config.heldout = common.section(split="validation", **source)
  config.labeler = common.section(
      stage="train_labeler", cameras=tuple(robot.cameras),
      inputs=dict(demonstrations="demonstrations", heldout="heldout"),
      model=dict(
          name="idm", preset=options.preset,
          kw=dict(nano["kw"] if options.preset == nano["preset"] else {},
                  embodiments=max(32, robot.id + 1))),
      allow_constant=True, state=bool(given.state), evaluate_episodes=64,
      time_base=dict(gap_seconds=gap / robot.clock.video_hz, horizon=gap),
      train=common.train(options.steps, 32, common.optim(1e-3, 50), ema=True))
  return config.lock()
