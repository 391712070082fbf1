"""Defaults that several configs share.

Used by the files beside this one; run those, for example
`python -m dreamgen_jax.main --config=configs/quickstart.py --workdir=DIR`.
"""

import pathlib

from ml_collections import config_dict

import dreamgen_jax
from dreamgen_jax import errors, options, registry

# The world models that configs run with: `--config.world_model=NAME`. `tune`
# and `pretrain` are `kw` of these stages. Guidance says "none" to Wan by 1, to
# Cosmos by 0; CogVideoX is as Wan; HunyuanVideo is told what it was trained
# with, needs no empty prompts for it, and reads no sentence without a frame,
# so that policies read with another's text encoder.
_WAN = dict(name="wan", preset="nano", tune=dict(train_shift=10.0),
            pretrain=dict(train_shift=3.0), text_dropout=0.1,
            sampler=dict(steps=2, guidance=1.0), reader=None)
_PLAIN = _WAN | dict(tune={}, pretrain={})
WORLD_MODELS = {
    "wan_nano": _WAN,
    "wan2_2_nano": _WAN | dict(preset="wan2_2_nano"),
    "cosmos_nano": _PLAIN | dict(
        name="cosmos", sampler=dict(steps=5, guidance=0.0)),
    "cogvideox_nano": _PLAIN | dict(
        name="cogvideox", sampler=dict(steps=5, guidance=1.0)),
    "hunyuan_nano": _PLAIN | dict(
        name="hunyuan", text_dropout=0.0, reader="wan_nano",
        sampler=dict(steps=5, guidance=6.0)),
}

# The labelers: `--config.labeler_model=NAME`. What is commanded at one frame is
# reached at the next, which is all that a pair needs; a clip shows more. To
# tell where the robot is teaches to see: after 1600 steps, RMSE of x was 1.1 cm
# with `state`, 1.8 without.
LABELERS = {
    "idm_nano": dict(
        model=dict(name="idm", preset="nano", kw=dict(
            vision_width=64, vision_heads=2, vision_mlp=256, vision_depth=3,
            width=64, heads=2, refine_depth=1, dit_depth=2)),
        time_base=dict(gap_seconds=0.2, horizon=1), state=True,
        optim=dict(learning_rate=1.5e-3, muon=True)),
    "vpt_nano": dict(
        model=dict(name="vpt", preset="nano", kw={}),
        time_base=dict(gap_seconds=0.8, horizon=5),
        optim=dict(learning_rate=1.5e-3)),
}

# The policies: `--config.policy=NAME`. `pace` multiplies a config's steps;
# `embodiment_ids` says which inputs are an embodiment of their own, and that
# other arms, which are told where to be as the Panda is, are none.
POLICIES = {
    "diffusion_policy_nano": dict(
        name="diffusion_policy", preset="nano", pace=1.0, batch_size=32,
        optim=dict(learning_rate=1e-3, b1=0.95)),
    # For several verbs and many layouts: it soon finds what a sentence names
    # in those that it never saw; the one above learns a verb's by heart.
    "diffusion_policy_seeking": dict(
        name="diffusion_policy", preset="nano_seeking", pace=1.0,
        batch_size=64, optim=dict(learning_rate=3e-3, b1=0.95)),
    "pi0_nano": dict(
        name="pi0", preset="nano", pace=0.8, batch_size=32,
        optim=dict(learning_rate=2e-3, b1=0.95, muon=True)),
    "groot_n1_nano": dict(
        name="groot_n1", preset="nano", pace=1.0, batch_size=32,
        optim=dict(learning_rate=2e-3, b1=0.9, muon=True),
        embodiment_ids=dict(neural=6, others=0)),
    "token_vla_nano": dict(
        name="token_vla", preset="nano", pace=1.0, batch_size=32,
        optim=dict(learning_rate=1e-3, b1=0.9)),
}

# The tabletop of quickstart.py and three_policies.py: what is demonstrated, and
# what is dreamed besides. No other verb does one of those by accident (it would
# topple: any sweep may do that).
SEEN = ("pick_place",)
NOVEL = ("push", "pull", "slide_left", "slide_right", "press_button")
SPREAD = 0.4  # of the simulator's range of positions; 1 needs a bigger model
VERBS = SEEN + NOVEL
CAMERA = "front"
ANYWHERE = dict(
    stage="collect", sim="tabletop", length=17, image_size=64,
    randomize_looks=False, spread=SPREAD, paraphrases=3, shards=4, workers=2)
PANDA = ANYWHERE | dict(robots=("panda",), scenes=("wood",))
OTHERS = ANYWHERE | dict(robots=("so100", "gantry", "scara", "ur"),
                         scenes=("marble", "slate", "felt", "brick"))
TRIALS = dict(
    stage="evaluate", sim="tabletop", robot="panda", scene="wood",
    spread=SPREAD, verbs=VERBS, first_seed=3_000_000, horizon=32,
    execute_steps=4, batch_size=10, videos=1, video_hz=5.0)


def section(**values):
  """A locked-later section of plain values."""
  return config_dict.ConfigDict(values)


def optim(learning_rate, warmup_steps, weight_decay=1e-2, **changes):
  """AdamW, or Muon for kernels; `decay` is the regex of paths that decay."""
  return section(**{
      "learning_rate": learning_rate, "warmup_steps": warmup_steps,
      "schedule": "cosine", "final": 0.02, "b1": 0.9, "b2": 0.99,
      "weight_decay": weight_decay, "decay": r"(kernel|weight)$",
      "clip": 1.0, **changes})


def train(steps, batch_size, optimizer, **changes):
  """What `stages.train.fit` reads."""
  return section(**{
      "steps": steps, "batch_size": batch_size, "seed": 0,
      "optim": optimizer, "trainable": ".*", "ema": False,
      "log_steps": max(steps // 50, 1), "eval_steps": max(steps // 5, 1),
      "checkpoint_seconds": 60.0, "mesh": section(data=-1),
      "nonfinite": "stop", "program": "", **changes})


def distilled_sampler(batch_size):
  """What a step-distilled adapter of Wan asks for: four unguided calls.

  The noise levels are 1, 0.9375, 0.833 and 0.625, as its authors' (LightX2V).
  """
  return section(
      steps=4, guidance=1.0, batch_size=batch_size,
      sampling=section(solver="euler", sample_shift=5.0))


def parse_arg(arg, defaults):
  """`file.py:long,seed=3` -> the defaults, changed; bare words become True."""
  values = dict(defaults)
  for part in filter(None, (arg or "").split(",")):
    key, _, value = part.partition("=")
    if key not in defaults:
      raise errors.ConfigError(
          f"Unknown config argument {key!r}; have: {', '.join(defaults)}."
          + registry.nearest(key, list(defaults)))
    kind = type(defaults[key])
    if kind is bool:
      values[key] = options.WORDS[value.lower()] if value else True
    else:
      values[key] = kind(value)
  return config_dict.ConfigDict(values)


def world_model(name):
  """The settings of a world model by the name that the command line takes."""
  return one_of("world model", name, WORLD_MODELS)


def labeler(name, steps):
  """The sections `model`, `time_base` and `train` of a labeler, and `state`."""
  chosen = dict(one_of("labeler", name, LABELERS))
  rule = optim(warmup_steps=50, **chosen.pop("optim"))
  return chosen | dict(train=train(steps, 32, rule, ema=True))


def policy(name, steps):
  """The sections `model` and `train` of a policy.

  Args:
    name: as the command line takes it.
    steps: of Diffusion Policy; others take more or fewer.
  """
  chosen = one_of("policy", name, POLICIES)
  return dict(
      model=dict(name=chosen["name"], preset=chosen["preset"], kw={}),
      train=train(
          round(chosen["pace"] * steps), chosen["batch_size"],
          optim(warmup_steps=50, **chosen["optim"]), ema=True))


def embodiment_ids(name, inputs):
  """The section `embodiment_ids` of a policy, if it has one for the inputs."""
  known = one_of("policy", name, POLICIES).get("embodiment_ids", {})
  found = {key: known[key] for key in inputs if key in known}
  return dict(embodiment_ids=found) if found else {}


def one_of(what, name, known):
  """known[name], or a ConfigError that tells what there is."""
  if name not in known:
    raise errors.ConfigError(
        f"Unknown {what} {name!r}; have: {', '.join(known)}."
        + registry.nearest(name, list(known)))
  return known[name]


def weighted(name, weights=""):
  """A stage's section `model`: a world model with its weights.

  Args:
    name: of the world model.
    weights: folder; "" takes those that ship with the package.

  Raises:
    ConfigError: there are none; says how to make them.
  """
  chosen = world_model(name)
  family, source = chosen["name"], weights or chosen["preset"]
  home = pathlib.Path(dreamgen_jax.__file__).parent / "world_models" / family
  if not (home / source).is_dir() and not pathlib.Path(source).is_dir():
    raise errors.ConfigError(
        (f"{weights} is no folder of weights" if weights else
         f"No weights of {name} ship with the package")
        + "; `python -m dreamgen_jax.main --config=configs/nano_pretrain.py "
        f"--config.world_model={name} --workdir=runs/{name}` makes some "
        "(--config.scale=0.001 tries that out), to be named by "
        f"--config.weights=runs/{name}/export/{chosen['preset']}.")
  return {"name": family, "preset": chosen["preset"], "source": source,
          "kw": {}}


def learner(name, options, inputs, steps):
  """A policy's section at the tabletop.

  Args:
    name: of the policy, as the command line takes it.
    options: world_model and weights, likewise; its text encoder reads.
    inputs: of the stage.
    steps: see `policy`.
  """
  other = world_model(options.world_model)["reader"]
  return section(
      stage="train_policy", cameras=(CAMERA,), inputs=inputs,
      text=weighted(other) if other else weighted(
          options.world_model, options.weights),
      **policy(name, steps), **embodiment_ids(name, inputs))


def report(config, **shown):
  """The section `report` of a config that has all others."""
  return section(
      stage="report", camera=CAMERA, video_hz=5.0, dreams_per_verb=2,
      evaluations_per_task=1,
      inputs={name: name for name in config if name != "seed"}, **shown)


def neural_road(config, options, long=False):
  """Adds the stages from the simulator to neural trajectories, `neural`.

  A Franka Panda is demonstrated `SEEN`; a world model that was pretrained on
  other robots is tuned on these videos and dreams `NOVEL` besides; an inverse
  dynamics model labels the dreams. `label_check`, `kept` and `dream_check` say
  how well.

  Args:
    config: where to.
    options: world_model, weights and labeler_model, as the command line takes
      them.
    long: more of everything.
  """
  chosen = world_model(options.world_model)
  nano = weighted(options.world_model, options.weights)
  # --- data ------------------------------------------------------------------
  config.demonstrations = section(
      what="demonstrations", verbs=SEEN, first_seed=0,
      episodes=400 if long else 200, **PANDA)
  config.heldout = section(
      what="demonstrations", verbs=SEEN, first_seed=1_000_000,
      episodes=50 if long else 24, **PANDA)
  config.prompts = section(
      what="prompts", verbs=VERBS, first_seed=2_000_000,
      episodes=1200 if long else 288, **PANDA)
  # Other robots elsewhere, as the base has seen them: only their video is read.
  config.rehearsal = section(
      what="demonstrations", verbs=VERBS, first_seed=5_000_000,
      episodes=720 if long else 240, **OTHERS)
  # The robot by itself, touching nothing: how its motions look, for the
  # labeler, which would else guess what it does from what it was shown, and
  # for the world model, which would else paint other arms at new verbs.
  config.wander = section(
      what="wander", verbs=VERBS, first_seed=6_000_000,
      episodes=400 if long else 200, **PANDA)
  # --- stage 1: fine-tune ----------------------------------------------------
  # One frame and one sentence leave little open here, and the model is small:
  # few, unguided steps stay near the mean of what it expects.
  sampler = section(batch_size=8, **chosen["sampler"])
  config.finetune = section(
      stage="finetune", model=nano | dict(kw=chosen["tune"]),
      camera=CAMERA, text_dropout=chosen["text_dropout"],
      inputs=dict(demonstrations="demonstrations", rehearsal="rehearsal",
                  wander="wander", heldout="heldout"),
      lora=dict(rank=16, alpha=16.0, quantize=None,
                match=r"blocks/.*(q|k|v|o|ffn_in|ffn_out)$"),
      batch_size=8, evaluate_clips=24, sampler=sampler,
      train=train(
          1200 if long else 350, 16,
          optim(1e-3, 20, weight_decay=0.0), trainable="^lora/"))
  # --- stage 2: dream --------------------------------------------------------
  config.dreams = section(
      stage="dream", inputs=dict(world_model="finetune", prompts="prompts"),
      camera=CAMERA, shards=8, adapters=(), **sampler)
  # --- stage 3: label --------------------------------------------------------
  config.seen = section(
      stage="repaint", camera=CAMERA, levels=(0.0, 0.8), shards=4,
      inputs=dict(world_model="finetune", demonstrations="demonstrations"))
  config.labeler = section(
      stage="train_labeler", cameras=(CAMERA,),
      inputs=dict(demonstrations="demonstrations", wander="wander",
                  seen="seen", heldout="heldout"),
      **labeler(options.labeler_model, 6000 if long else 2400))
  label = dict(stage="label", samples=8, weights="uniform", batch_size=17,
               shards=4)
  config.neural = section(
      inputs=dict(labeler="labeler", videos="dreams"), **label)
  config.heldout_labels = section(
      inputs=dict(labeler="labeler", videos="heldout"), **label)
  config.label_check = section(
      stage="replay", sim="tabletop",
      inputs=dict(labels="heldout_labels", truth="heldout"))
  config.kept = section(
      stage="filter", shards=4,
      inputs=dict(trajectories="neural", reference="demonstrations"),
      judges=dict(certainty=dict(name="certainty", keep=0.7, kw={})))
  config.dream_check = section(
      stage="replay", sim="tabletop", inputs=dict(labels="kept"))
