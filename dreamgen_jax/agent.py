"""A policy ready for use: observations and words in, actions out."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from dreamgen_jax import interfaces
from dreamgen_jax.data import normalize


@dataclasses.dataclass(frozen=True, eq=False)
class Agent:
  """A policy with its weights, units and sentence vectors.

  Attributes:
    model, params: the policy.
    action: normalizer of its chunks.
    state: normalizer of the states it sees; None where it never saw one.
    sentences: sentences -> vectors f32[n,e].
  """

  model: interfaces.Policy
  params: interfaces.Params
  action: normalize.Normalizer
  state: normalize.Normalizer | None
  sentences: Any

  def __call__(self, observation: dict[str, Any],
               keys: jax.Array) -> np.ndarray:
    """Chunk f32[b,u,a] in physical units; see `rollout.rollout`."""
    batch = dict(observation)
    batch["text"] = self.sentences(batch.pop("instruction"))
    if self.state is None:
      batch["state"] = np.zeros_like(batch["state"])
      batch["state_mask"] = np.zeros_like(batch["state_mask"])
    else:
      batch["state"] = self.state.apply(batch["state"])
    return self.action.undo(np.asarray(self._act(self.params, keys, batch)))

  @functools.cached_property
  def _act(self) -> Any:
    return jax.jit(self.model.act)


class Sentences:
  """Mean states of a world model's text encoder, each sentence run once."""

  def __init__(self, encode: Any):
    """`encode`: list of n sentences -> states f32[n,m,d], zero past the end.
    """
    self._encode, self._known = encode, {}

  def __call__(self, sentences: Sequence[str]) -> np.ndarray:
    """Sentences -> f32[n,d]."""
    new = sorted(set(sentences) - self._known.keys())
    if new:
      states = self._encode(new)
      count = np.any(states != 0, axis=-1).sum(axis=-1, keepdims=True)
      self._known |= dict(zip(
          new, states.sum(axis=1) / np.maximum(count, 1), strict=True))
    return np.stack([self._known[s] for s in sentences]).astype(np.float32)
