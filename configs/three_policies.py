"""Three policies, each with little data, with dreams besides, and with much.

Command: python -m dreamgen_jax.main --config=configs/three_policies.py \\
           --workdir=runs/three_policies
Others:  as of quickstart.py: --config.world_model, weights, labeler_model
         three_policies.py:only=diffusion_policy_seeking is one row of the three
Hardware: 2 CPU cores, 8 GB; 1 h 49 min with pi0's and GR00T N1's rows trained
         side by side, a core each.

The paper's figure in miniature. Diffusion Policy, pi0 and GR00T N1 learn six
verbs from 10 demonstrations of each; from these and the quickstart's neural
trajectories, 1:1; and from 100 of each, the upper bound of all that dreams can
give. All start from what other arms in other rooms taught them of pick_place:
which things words mean, and where they are. Beside them the world model itself
plans, without a policy (UniPi). In the quickstart's workdir it goes on from
there.
"""

from configs import common

ARGUMENTS = dict(world_model="wan_nano", weights="", labeler_model="idm_nano",
                 only="")
POLICIES = {"diffusion_policy_seeking": "Diffusion Policy", "pi0_nano": "pi0",
            "groot_n1_nano": "GR00T N1"}
# Of Diffusion Policy; others take more or fewer, see `common.POLICIES`.
STEPS = dict(base=10000, low=2000, mixed=2000, upper=12000)


def get_config(arg=None):
  """The quickstart's road, and three times four policies at its end."""
  options = common.parse_arg(arg, ARGUMENTS)
  config = common.section(seed=0)
  common.neural_road(config, options)
  experts = common.PANDA | dict(what="demonstrations", verbs=common.VERBS)
  # The hand is pushed about meanwhile: how to come back is learnt here.
  config.others = common.section(
      what="demonstrations", verbs=common.SEEN, first_seed=8_000_000,
      episodes=3000, settings=common.section(wobble=0.015), **common.OTHERS)
  config.few = common.section(
      first_seed=7_000_000, episodes=10 * len(common.VERBS), **experts)
  config.many = common.section(
      first_seed=4_000_000, episodes=100 * len(common.VERBS), **experts)
  # Seen by all, in equal shares: a few layouts alone are learnt by heart.
  others = dict(others="others")
  sources = dict(low=dict(real="few"),
                 mixed=dict(real="few", neural="neural"),
                 upper=dict(real="many"))
  words = dict(low="10 demonstrations a verb", mixed="10 and dreams",
               upper="100 a verb")
  names = {}
  rows = {options.only: common.one_of("row", options.only, POLICIES)
          } if options.only else POLICIES
  for policy, title in rows.items():
    family = policy.rpartition("_")[0]
    base = f"{family}_base"
    config[base] = common.learner(policy, options, others, STEPS["base"])
    for data, inputs in sources.items():
      name = f"{family}_{data}"
      config[name] = common.learner(
          policy, options, inputs | others | dict(start=base), STEPS[data])
      names[name] = f"{title}, {words[data]}"
  unipi = dict(
      world_model="finetune", labeler="labeler", camera=common.CAMERA,
      batch_size=10, samples=8, weights="uniform",
      **common.world_model(options.world_model)["sampler"])
  config.evaluation = common.section(
      inputs={name: name for name in (*names, "finetune", "labeler")},
      planners=dict(unipi=unipi), novel=(), trials=20,
      **common.TRIALS | dict(execute_steps=2))
  names["unipi"] = "dreams as plans"
  config.report = common.report(
      config, novel=(), names=names,
      upper=tuple(name for name in names if name.endswith("upper")),
      headline=dict(
          policy=f"{family}_mixed", task="all",
          against=(f"{family}_low", f"{family}_upper", "noop")))
  return config.lock()
