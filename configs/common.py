"""Defaults that several configs share.

Used by the files beside this one; run those, for example
`python -m dreamgen_jax.main --config=configs/quickstart.py --workdir=DIR`.
"""

from ml_collections import config_dict


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
      "checkpoint_seconds": 60.0, "mesh": section(data=-1), **changes})


def parse_arg(arg, **defaults):
  """`file.py:long,seed=3` -> the defaults, changed; bare words become True."""
  values = dict(defaults)
  for part in filter(None, (arg or "").split(",")):
    key, _, value = part.partition("=")
    if key not in defaults:
      raise ValueError(
          f"Unknown config argument {key!r}; have: {', '.join(defaults)}.")
    kind = type(defaults[key])
    values[key] = True if kind is bool and not value else kind(value)
  return config_dict.ConfigDict(values)
