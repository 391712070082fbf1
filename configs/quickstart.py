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

SEEN = ("pick_place",)
SPREAD = 0.4  # of the simulator's range of positions; 1 needs a bigger model
# Verbs that no other one does by accident (topple would: any sweep may do it).
NOVEL = ("push", "pull", "slide_left", "slide_right", "press_button")
ARGUMENTS = dict(long=False, world_model="wan_nano", weights="",
                 labeler_model="idm_nano", policy="diffusion_policy_nano")


def get_config(arg=None):
  """`long` takes at most 90 minutes and adds an upper bound."""
  options = common.parse_arg(arg, ARGUMENTS)
  long = options.long
  world_model = common.world_model(options.world_model)
  nano = common.weighted(options.world_model, options.weights)
  reader = world_model["reader"]
  config = common.section(seed=0)
  anywhere = dict(
      stage="collect", sim="tabletop", length=17, image_size=64,
      randomize_looks=False, spread=SPREAD, paraphrases=3, shards=4, workers=2)
  sim = anywhere | dict(robots=("panda",), scenes=("wood",))
  camera = "front"

  # --- data ------------------------------------------------------------------
  config.demonstrations = common.section(
      what="demonstrations", verbs=SEEN, first_seed=0,
      episodes=400 if long else 200, **sim)
  config.heldout = common.section(
      what="demonstrations", verbs=SEEN, first_seed=1_000_000,
      episodes=50 if long else 24, **sim)
  config.prompts = common.section(
      what="prompts", verbs=SEEN + NOVEL, first_seed=2_000_000,
      episodes=1200 if long else 288, **sim)
  # Other robots elsewhere, as the base has seen them: only their video is read.
  config.rehearsal = common.section(
      what="demonstrations", verbs=SEEN + NOVEL, first_seed=5_000_000,
      robots=("so100", "gantry", "scara", "ur"),
      scenes=("marble", "slate", "felt", "brick"),
      episodes=720 if long else 240, **anywhere)
  # The robot by itself, touching nothing: how its motions look, for the
  # labeler, which would else guess what it does from what it was shown, and
  # for the world model, which would else paint other arms at new verbs.
  config.wander = common.section(
      what="wander", verbs=SEEN + NOVEL, first_seed=6_000_000,
      episodes=400 if long else 200, **sim)
  # --- stage 1: fine-tune ----------------------------------------------------
  # One frame and one sentence leave little open here, and the model is small:
  # few, unguided steps stay near the mean of what it expects.
  sampler = common.section(batch_size=8, **world_model["sampler"])
  config.finetune = common.section(
      stage="finetune", model=nano | dict(kw=world_model["tune"]),
      camera=camera, text_dropout=world_model["text_dropout"],
      inputs=dict(demonstrations="demonstrations", rehearsal="rehearsal",
                  wander="wander", heldout="heldout"),
      lora=dict(rank=32 if long else 16, alpha=16.0, quantize=None,
                match=r"blocks/.*(q|k|v|o|ffn_in|ffn_out)$"),
      batch_size=8, evaluate_clips=24, sampler=sampler,
      train=common.train(
          2400 if long else 350, 16,
          common.optim(1e-3, 20, weight_decay=0.0), trainable="^lora/"))
  # --- stage 2: dream --------------------------------------------------------
  config.dreams = common.section(
      stage="dream", inputs=dict(world_model="finetune", prompts="prompts"),
      camera=camera, shards=8, adapters=(), **sampler)
  # --- stage 3: label --------------------------------------------------------
  config.seen = common.section(
      stage="repaint", camera=camera, levels=(0.0, 0.8), shards=4,
      inputs=dict(world_model="finetune", demonstrations="demonstrations"))
  config.labeler = common.section(
      stage="train_labeler", cameras=(camera,),
      inputs=dict(demonstrations="demonstrations", wander="wander",
                  seen="seen", heldout="heldout"),
      **common.labeler(options.labeler_model), train=common.train(
          6000 if long else 2400, 32, common.optim(1.5e-3, 50), ema=True))
  label = dict(stage="label", samples=8, weights="uniform", batch_size=17,
               shards=4)
  config.neural = common.section(
      inputs=dict(labeler="labeler", videos="dreams"), **label)
  config.heldout_labels = common.section(
      inputs=dict(labeler="labeler", videos="heldout"), **label)
  config.label_check = common.section(
      stage="replay", sim="tabletop",
      inputs=dict(labels="heldout_labels", truth="heldout"))
  config.kept = common.section(
      stage="filter", shards=4,
      inputs=dict(trajectories="neural", reference="demonstrations"),
      judges=dict(certainty=dict(name="certainty", keep=0.7, kw={})))
  config.dream_check = common.section(
      stage="replay", sim="tabletop", inputs=dict(labels="kept"))
  # --- stage 4: train and evaluate policies ----------------------------------
  policy = dict(
      stage="train_policy", cameras=(camera,),
      text=common.weighted(reader) if reader else nano,
      **common.policy(options.policy, 2400 if long else 1200))
  sources = dict(
      neural=dict(neural="neural"),
      mixed=dict(neural="neural", real="demonstrations"),
      demos=dict(real="demonstrations"))
  if long:
    config.experts = common.section(
        what="demonstrations", verbs=SEEN + NOVEL, first_seed=4_000_000,
        episodes=1200, **sim)
    sources["oracle"] = dict(real="experts")
  for name, inputs in sources.items():
    config[f"policy_{name}"] = common.section(
        inputs=inputs, **policy,
        **common.embodiment_ids(options.policy, inputs))
  config.evaluation = common.section(
      stage="evaluate", inputs={name: f"policy_{name}" for name in sources},
      sim="tabletop", robot="panda", scene="wood", spread=SPREAD,
      verbs=SEEN + NOVEL,
      novel=NOVEL, trials=50 if long else 10, first_seed=3_000_000,
      horizon=32, execute_steps=4, batch_size=10, videos=1, video_hz=5.0)
  config.report = common.section(
      stage="report", novel=NOVEL, camera=camera, video_hz=5.0,
      dreams_per_verb=2, evaluations_per_task=1,
      inputs={name: name for name in config if name != "seed"})
  return config.lock()
