"""Optimisers, schedules and masks over parameter paths (optax)."""

import functools
import re
from typing import Any

import jax
import optax
import optax.contrib

from dreamgen_jax import errors


def path_mask(params: Any, pattern: str) -> Any:
  """Tree of bools: does the "/"-joined path match the regex (search)?"""
  regex = re.compile(pattern)

  def matches(path, unused_leaf):
    return bool(regex.search(
        jax.tree_util.keystr(path, simple=True, separator="/")))

  return jax.tree_util.tree_map_with_path(matches, params)


def partition(params: Any, pattern: str) -> tuple[Any, Any]:
  """(trainable, frozen): the same tree twice, with None for the other's part.

  Raises:
    ConfigError: the pattern matches no parameter.
  """
  mask = path_mask(params, pattern)
  if not any(jax.tree.leaves(mask)):
    raise errors.ConfigError(
        f"config.trainable = {pattern!r} matches no parameter path.")
  trainable = jax.tree.map(lambda m, p: p if m else None, mask, params)
  frozen = jax.tree.map(lambda m, p: None if m else p, mask, params)
  return trainable, frozen


def combine(trainable: Any, frozen: Any) -> Any:
  """Inverse of `partition`."""
  return jax.tree.map(
      lambda a, b: b if a is None else a, trainable, frozen,
      is_leaf=lambda leaf: leaf is None)


def schedule(config: Any, steps: int) -> optax.Schedule:
  """Linear warm-up, then "cosine" to `final` times the peak, or "constant"."""
  warmup = min(config.warmup_steps, max(steps - 1, 1))
  if config.schedule == "constant":
    rest = optax.constant_schedule(config.learning_rate)
  elif config.schedule == "cosine":
    rest = optax.cosine_decay_schedule(
        config.learning_rate, max(steps - warmup, 1), alpha=config.final)
  else:
    raise errors.ConfigError(
        f"Unknown schedule {config.schedule!r}; have: cosine, constant.")
  ramp = optax.linear_schedule(0.0, config.learning_rate, max(warmup, 1))
  return optax.join_schedules([ramp, rest], [warmup])


def optimizer(config: Any, steps: int) -> optax.GradientTransformation:
  """AdamW, or Muon if `config.muon`, with global-norm clipping.

  Only `config.decay` paths decay. Muon (arXiv 2502.16982) orthogonalises the
  steps of kernels, each matrix of a stack by itself, and is as large as AdamW
  in the mean, so that learning rates carry over; all else is Adam's.
  """
  rate = schedule(config, steps)
  mask = functools.partial(path_mask, pattern=config.decay)
  if config.get("muon", False):
    rule = optax.contrib.muon(
        rate, beta=config.b1, adam_b1=config.b1, adam_b2=config.b2,
        weight_decay=config.weight_decay, weight_decay_mask=mask,
        muon_weight_dimension_numbers=_matrices, consistent_rms=0.2)
  else:
    rule = optax.adamw(
        rate, b1=config.b1, b2=config.b2, eps=1e-8,
        weight_decay=config.weight_decay, mask=mask)
  return optax.chain(optax.clip_by_global_norm(config.clip), rule)


def _matrices(params: Any) -> Any:
  """Which axes of a leaf are a matrix: a kernel's last two, or None."""
  return jax.tree.map(
      lambda leaf, kernel: optax.contrib.MuonDimensionNumbers(
          leaf.ndim - 2, leaf.ndim - 1) if kernel and leaf.ndim > 1 else None,
      params, path_mask(params, r"kernel$"))
