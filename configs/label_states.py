"""What is a state worth in neural trajectories: none, decoded, or the true one?

Command: python -m dreamgen_jax.main --config=configs/label_states.py \\
           --workdir=runs/label_states
Others:  --config.scale=0.02 shrinks every count, to try the road out
         --config.policy=groot_n1_nano (or pi0_nano)
         --config.trained=runs/NAME/labeler one that decodes states, such as the
           quickstart's, instead of a new one
Hardware: 2 CPU cores, 8 GB.

DreamGen gives its neural trajectories states of zeros. Here a labeler learns to
decode the state of every frame, too; the same videos are labelled with no
states, with decoded and with recorded ones, and a policy is trained on each.
The videos are recordings, so that the truth is known, of verbs that the labeler
never saw (but it saw the robot wander); their actions are not read.
"""

from configs import common

SEEN, OTHERS = common.SEEN, ("push", "pull", "press_button")
ARGUMENTS = dict(scale=1.0, policy="diffusion_policy_nano", trained="")
STATES = ("zero", "decoded", "recorded")


def get_config(arg=None):
  """`scale` multiplies episodes, steps and trials."""
  options = common.parse_arg(arg, ARGUMENTS)

  def count(number):
    return max(int(number * options.scale), 4)

  def collect(what, verbs, seed, episodes):
    return common.section(what=what, verbs=verbs, first_seed=seed,
                          episodes=count(episodes), **common.PANDA)

  config = common.section(seed=0)
  config.videos = collect("demonstrations", SEEN + OTHERS, 2_000_000, 300)
  if not options.trained:
    config.demonstrations = collect("demonstrations", SEEN, 0, 200)
    config.wander = collect("wander", common.VERBS, 6_000_000, 200)
    config.heldout = collect("demonstrations", SEEN, 1_000_000, 24)
    config.labeler = common.section(
        stage="train_labeler", cameras=(common.CAMERA,),
        inputs=dict(demonstrations="demonstrations", wander="wander",
                    heldout="heldout"),
        **common.labeler("idm_nano", count(1600)))
  for state in STATES:
    config[f"labels_{state}"] = common.section(
        stage="label", samples=4,
        inputs=dict(labeler=options.trained or "labeler", videos="videos"),
        weights="uniform", batch_size=17, shards=4, state=state)
    config[f"policy_{state}"] = common.section(
        stage="train_policy", cameras=(common.CAMERA,),
        inputs=dict(neural=f"labels_{state}"), text=common.weighted("wan_nano"),
        **common.policy(options.policy, count(1200)))
  config.evaluation = common.section(
      inputs={state: f"policy_{state}" for state in STATES},
      **common.TRIALS | dict(verbs=SEEN + OTHERS, novel=OTHERS, videos=0,
                             trials=count(20)))
  return config.lock()
