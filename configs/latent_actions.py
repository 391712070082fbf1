"""Latent actions: labels learnt from videos of which nobody knows the actions.

Command: python -m dreamgen_jax.main --config=configs/latent_actions.py \\
           --workdir=runs/latent_actions
Others:  --config.scale=0.01 shrinks every count, to try the road out;
           --config.neural.inputs.videos=runs/quickstart/dreams labels dreams
Hardware: 2 CPU cores, 8 GB.

LAPA's latent action quantisation at nano size learns, from a mixture of videos
of four robots at the tabletop and of the Panda, what changes between two frames
a second apart. Its latents label the Panda's videos (that are recorded here,
dreamed elsewhere), and a policy learns to predict them from a frame and a
sentence. These videos' own actions are never read.

`latent_actions.py:tokens` is LAPA's own way: labels are the codes' numbers, a
policy of tokens learns to say them, and then the robot's actions from a few
demonstrations that have them.

Released weights: --config.preset=lapa --config.start=laq_openx.pt starts from
them; with --config.labeler.train.steps=0 they label as they are.
"""

from configs import common

ROBOTS = ("so100", "gantry", "scara", "ur")
VERBS = ("pick_place", "push", "pull", "slide_left", "slide_right",
         "press_button")
ARGUMENTS = dict(scale=1.0, preset="nano", start="", tokens=False)
CODES = 8  # of LAPA's codebook


def get_config(arg=None):
  """`scale` multiplies episodes and steps; `start` is the labeler's."""
  options = common.parse_arg(arg, ARGUMENTS)

  def count(number):
    return max(int(number * options.scale), 4)

  config = common.section(seed=0)
  sim = dict(
      stage="collect", what="demonstrations", sim="tabletop", verbs=VERBS,
      length=17, image_size=64, randomize_looks=False, spread=0.4,
      paraphrases=3, shards=4, workers=2)
  camera = "front"
  config.others = common.section(
      robots=ROBOTS, scenes=("marble", "slate", "sky"), first_seed=0,
      episodes=count(400), **sim)
  config.panda = common.section(
      robots=("panda",), scenes=("wood",), first_seed=1_000_000,
      episodes=count(200), **sim)
  config.heldout = common.section(
      robots=("panda",), scenes=("wood",), first_seed=2_000_000,
      episodes=count(24), **sim)
  videos = dict(others="others", panda="panda", heldout="heldout")
  config.labeler = common.section(
      stage="train_latent_labeler",
      inputs=videos | (dict(start=options.start) if options.start else {}),
      weights=dict(others=1.0, panda=1.0), camera=camera, in_memory=True,
      model=dict(name="lapa", preset=options.preset,
                 kw=dict(as_codes=True) if options.tokens else {}),
      time_base=dict(gap_seconds=1.0, video_hz=5.0),
      evaluate_pairs=256, batch_size=32,
      train=common.train(
          count(1500), 32, common.optim(1e-3, 50, weight_decay=0.0), ema=True))
  config.neural = common.section(
      stage="label", inputs=dict(labeler="labeler", videos="panda"),
      samples=1, weights="uniform", batch_size=16, shards=4)
  learner = dict(
      stage="train_policy", cameras=(camera,), text=common.weighted("wan_nano"),
      **common.policy("token_vla_nano" if options.tokens else
                      "diffusion_policy_nano", count(600)))
  config.policy = common.section(inputs=dict(neural="neural"), **learner)
  if options.tokens:
    # One latent action at a time, each of its codes a word.
    config.policy.model.kw = dict(horizon=1, bins=CODES)
    config.taught = common.section(
        robots=("panda",), scenes=("wood",), first_seed=3_000_000,
        episodes=count(60), **sim)
    config.tuned = common.section(
        inputs=dict(start="policy", real="taught"), **learner)
  return config.lock()
