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
        time_base=dict(gap_seconds=0.2, horizon=1), state=True),
    "vpt_nano": dict(
        model=dict(name="vpt", preset="nano", kw={}),
        time_base=dict(gap_seconds=0.8, horizon=5)),
}

# The policies: `--config.policy=NAME`. `pace` multiplies a config's steps;
# `embodiment_ids` names inputs that are an embodiment of their own.
POLICIES = {
    "diffusion_policy_nano": dict(
        name="diffusion_policy", preset="nano", pace=1.0, batch_size=32,
        learning_rate=1e-3, b1=0.95),
    "pi0_nano": dict(
        # A step of as many samples takes eight times Diffusion Policy's.
        name="pi0", preset="nano", pace=0.5, batch_size=16,
        learning_rate=1e-3, b1=0.9),
    "groot_n1_nano": dict(
        name="groot_n1", preset="nano", pace=1.0, batch_size=32,
        learning_rate=1e-3, b1=0.9, embodiment_ids=dict(neural=6)),
    "token_vla_nano": dict(
        name="token_vla", preset="nano", pace=1.0, batch_size=32,
        learning_rate=1e-3, b1=0.9),
}


def section(**values):
  """A locked-later section of plain values."""
  return config_dict.ConfigDict(values)


def optim(learning_rate, warmup_steps, weight_decay=1e-2, **changes):
  """AdamW; `decay` is the regex of parameter paths that decay."""
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
      "nonfinite": "stop", **changes})


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
  return _chosen("world model", name, WORLD_MODELS)


def labeler(name):
  """What a labeler of the tabletop is: `model`, `time_base`, `state`."""
  return _chosen("labeler", name, LABELERS)


def policy(name, steps):
  """The sections `model` and `train` of a policy.

  Args:
    name: as the command line takes it.
    steps: of Diffusion Policy; others take more or fewer.
  """
  chosen = _chosen("policy", name, POLICIES)
  return dict(
      model=dict(name=chosen["name"], preset=chosen["preset"], kw={}),
      train=train(
          round(chosen["pace"] * steps), chosen["batch_size"],
          optim(chosen["learning_rate"], 50, b1=chosen["b1"]), ema=True))


def embodiment_ids(name, inputs):
  """The section `embodiment_ids` of a policy, if it has one for the inputs."""
  known = _chosen("policy", name, POLICIES).get("embodiment_ids", {})
  found = {key: known[key] for key in inputs if key in known}
  return dict(embodiment_ids=found) if found else {}


def _chosen(what, name, known):
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
