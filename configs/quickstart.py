"""The whole of DreamGen on a 2-core laptop, on a simulated tabletop.

Command: python -m dreamgen_jax.main --config=configs/quickstart.py \\
           --workdir=runs/quickstart
Longer:  --config=configs/quickstart.py:long (more dreams, steps and trials)
Hardware: 2 CPU cores, 8 GB. Hours and numbers: README.md, "What you will see".

A Franka Panda is demonstrated picking and placing. A world model that was
pretrained on *other* robots doing other things is tuned on these videos,
dreams the Panda doing what nobody showed it, an inverse dynamics model labels
the dreams, and policies are trained on them and judged in the simulator.
"""

from configs import common

SEEN = ("pick_place",)
NOVEL = ("push", "slide_left", "slide_right", "press_button", "topple")


def get_config(arg=None):
  options = common.parse_arg(arg, long=False)
  long = options.long
  config = common.section(seed=0)
  sim = dict(sim="tabletop", robots=("panda",), scenes=("wood",), length=17,
             image_size=64, randomize_looks=False, shards=4, workers=2)

  # --- data ------------------------------------------------------------------
  config.demonstrations = common.section(
      stage="collect", what="demonstrations", verbs=SEEN, first_seed=0,
      episodes=400 if long else 150, **sim)
  config.heldout = common.section(
      stage="collect", what="demonstrations", verbs=SEEN,
      first_seed=1_000_000, episodes=40 if long else 20, **sim)
  config.prompts = common.section(
      stage="collect", what="prompts", verbs=SEEN + NOVEL,
      first_seed=2_000_000, episodes=1500 if long else 240, **sim)
  # --- stage 1: fine-tune ----------------------------------------------------
  config.finetune = common.section(
      stage="finetune",
      inputs=dict(demonstrations="demonstrations", heldout="heldout"),
      model=dict(name="wan", preset="nano", source="nano", kw={}),
      lora=dict(rank=8, alpha=8.0, match=r"blocks/.*/(q|k|v|o|in|out)$"),
      evaluate_clips=16,
      train=common.train(
          1500 if long else 400, 16,
          common.optim(1e-3, 20, weight_decay=0.0)))
  # --- stage 2: dream --------------------------------------------------------
  config.dreams = common.section(
      stage="dream", inputs=dict(world_model="finetune", prompts="prompts"),
      steps=12, guidance=3.0, batch_size=8, shards=8)
  # --- stage 3: label --------------------------------------------------------
  config.labeler = common.section(
      stage="train_labeler",
      inputs=dict(demonstrations="demonstrations", heldout="heldout"),
      model=dict(name="idm", preset="nano", kw={}),
      time_base=dict(gap_seconds=0.4, horizon=4),
      train=common.train(
          6000 if long else 1500, 64, common.optim(1e-3, 100), ema=True))
  label = dict(stage="label", samples=4, weights="uniform", batch_size=64,
               shards=4)
  config.neural = common.section(
      inputs=dict(labeler="labeler", videos="dreams"), **label)
  config.heldout_labels = common.section(
      inputs=dict(labeler="labeler", videos="heldout"), **label)
  config.label_check = common.section(
      stage="replay", inputs=dict(labels="heldout_labels", truth="heldout"))
  # --- stage 4: train and evaluate policies ----------------------------------
  policy = dict(
      stage="train_policy",
      model=dict(name="diffusion_policy", preset="nano", kw={}),
      text=dict(world_model="wan", preset="nano", source="nano"),
      normalizer="demonstrations", state_dropout=0.5,
      train=common.train(
          8000 if long else 1200, 64, common.optim(5e-4, 100, b1=0.95),
          ema=True))
  sources = dict(
      neural=dict(neural="neural"),
      mixed=dict(neural="neural", real="demonstrations"),
      demos=dict(real="demonstrations"))
  for name, inputs in sources.items():
    config[f"policy_{name}"] = common.section(
        inputs=dict(inputs, demonstrations="demonstrations"), **policy)
  config.evaluation = common.section(
      stage="evaluate",
      inputs={name: f"policy_{name}" for name in sources},
      sim="tabletop", robot="panda", scene="wood", verbs=SEEN + NOVEL,
      novel=NOVEL, trials=50 if long else 10, first_seed=3_000_000,
      horizon=32, execute_steps=4, batch_size=10, noop=True, videos=2)
  config.report = common.section(
      stage="report",
      inputs=dict(
          demonstrations="demonstrations", heldout="heldout",
          finetune="finetune", dreams="dreams", labeler="labeler",
          heldout_labels="heldout_labels", label_check="label_check",
          **{f"policy_{name}": f"policy_{name}" for name in sources},
          evaluation="evaluation"))
  return config.lock()
