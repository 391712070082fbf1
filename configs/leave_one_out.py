"""How well are actions decoded from videos of an episode that was never seen?

Command: python -m tfds_builders.lerobot.build --source=LEROBOT_DIR \\
           --embodiment=gr1 --output=runs/gr1/data
         python -m dreamgen_jax.main --config=configs/leave_one_out.py \\
           --config.data=runs/gr1 --workdir=runs/gr1_folds
Others:  --config.steps=1000 of each fold, --config.batch_size=32 windows each;
           --config.gap=16 frames and steps of a window; --config.model=vpt_nano
           for clips instead of pairs
         python -m dreamgen_jax.validate_labels --data=runs/gr1 --only=ID \\
           --labeler=runs/gr1_folds/fold_0 --output=DIR draws its actions
Hardware: 2 CPU cores, 8 GB.

Trains a nano labeler as often as there are episodes, each without one, and
measures it on that one: `folds` has R2 and errors by key and dimension.
"""

import pathlib

from configs import common
from dreamgen_jax.data import catalogue

ARGUMENTS = dict(data="", steps=1000, batch_size=32, gap=16,
                 model="idm_nano", most=8)
# A few episodes are soon known by heart, each by its table and its light.
MOVED = dict(shift=4, jitter=(0.6, 0.6, 1.0, 0.5))


def get_config(arg=None):
  """`most` folds, the first episodes of the folder `data` in turn."""
  options = common.parse_arg(arg, ARGUMENTS)
  dataset = catalogue.open(pathlib.Path(options.data) / "data")
  robot = dataset.embodiment
  model = common.one_of("labeler", options.model, common.LABELERS)["model"]
  kw = model["kw"] | dict(embodiments=robot.id + 1, **MOVED)
  config = common.section(seed=0)
  folds = {f"fold_{i}": name
           for i, name in enumerate(dataset.ids[:options.most])}
  for fold, name in folds.items():
    config[fold] = common.section(
        stage="train_labeler", cameras=tuple(dataset.cameras),
        inputs=dict(demonstrations=options.data), leave_out=(name,),
        model=model | dict(kw=kw), allow_constant=True,
        time_base=dict(gap_seconds=options.gap / dataset.clock.video_hz,
                       horizon=options.gap),
        train=common.train(
            options.steps, options.batch_size, common.optim(1e-3, 50),
            ema=True))
  config.folds = common.section(
      stage="folds", inputs={fold: fold for fold in folds})
  return config.lock()
