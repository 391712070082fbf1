"""The whole of DreamGen on a 2-core laptop, on a simulated tabletop.

Command: python -m dreamgen_jax.main --config=configs/quickstart.py \\
           --workdir=runs/quickstart
Longer:  --config=configs/quickstart.py:long (more dreams, steps and trials)
Others:  --config.world_model=cogvideox_nano (or wan2_2_nano, cosmos_nano,
           hunyuan_nano), with --config.weights=FOLDER as nano_pretrain.py
           exports it; only wan_nano's weights ship
         --config.labeler_model=vpt_nano (the default is idm_nano)
         --config.policy=groot_n1_nano (or pi0_nano; the default is
           diffusion_policy_nano)
Hardware: 2 CPU cores, 8 GB. Hours and numbers: README.md, "What you will see".

A Franka Panda is demonstrated picking and placing. A world model that was
pretrained on *other* robots doing other things is tuned on these videos,
dreams the Panda doing what nobody showed it, an inverse dynamics model labels
the dreams, and policies are trained on them and judged in the simulator.
"""

from configs import common

ARGUMENTS = dict(long=False, world_model="wan_nano", weights="",
                 labeler_model="idm_nano", policy="diffusion_policy_nano")


def get_config(arg=None):
  """`long` takes at most 90 minutes and adds an upper bound."""
  options = common.parse_arg(arg, ARGUMENTS)
  long = options.long
  config = common.section(seed=0)
  common.neural_road(config, options, long)
  # --- stage 4: train and evaluate policies ----------------------------------
  sources = dict(
      neural=dict(neural="neural"),
      mixed=dict(neural="neural", real="demonstrations"),
      demos=dict(real="demonstrations"))
  if long:
    config.experts = common.section(
        what="demonstrations", verbs=common.VERBS, first_seed=4_000_000,
        episodes=1200, **common.PANDA)
    sources["oracle"] = dict(real="experts")
  for name, inputs in sources.items():
    config[f"policy_{name}"] = common.learner(
        options.policy, options, inputs, 2400 if long else 1200)
  config.evaluation = common.section(
      inputs={name: f"policy_{name}" for name in sources},
      novel=common.NOVEL, trials=50 if long else 10, **common.TRIALS)
  config.report = common.report(
      config, novel=common.NOVEL, upper=("oracle",) if long else (),
      headline=dict(policy="neural", against=("demos", "noop"), task="novel"))
  return config.lock()
