"""A policy ready for use: observations and words in, actions out."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from dreamgen_jax import errors, execution, interfaces, types
from dreamgen_jax.data import normalize

FAR = 100.0  # normalised states are about 1


@dataclasses.dataclass(frozen=True, eq=False)
class Agent:
  """A policy with its weights, units and language.

  Attributes:
    model, params: the policy.
    action: normalizer of its chunks.
    state: normalizer of the states it sees; None where it never saw one.
    language: what the policy reads instructions with.
    embodiment: id of the robot, as the policy knows it.
    robot: what its states and actions mean.
  """

  model: interfaces.Policy
  params: interfaces.Params
  action: normalize.Normalizer
  state: normalize.Normalizer | None
  language: "Language"
  embodiment: int
  robot: types.Embodiment

  def __call__(self, observation: dict[str, Any],
               keys: jax.Array) -> np.ndarray:
    """Chunk f32[b,u,a] in physical units; see `rollout.rollout`.

    Raises:
      UserError: see `prepare`.
    """
    return self.action.undo(np.asarray(
        self.plan(keys, self.prepare(observation))))

  def prepare(self, observation: dict[str, Any]) -> dict[str, Any]:
    """Observations in physical units and words -> what the policy reads.

    Raises:
      DataError: a camera is missing, the state is of another width, NaN, or
        far from all that the policy has learnt from.
      ConfigError: chunks that have to begin with something, of a policy that
        cannot be told.
      UserError: what else the policy says of the words.
    """
    batch = dict(observation)
    instructions = batch.pop("instruction")
    for camera in self.model.config.cameras:
      if f"image/{camera}" not in batch:
        raise errors.DataError(
            f"The observation lacks the camera {camera!r} that the policy "
            "sees.")
    if "kept" in batch:
      batch |= self._kept(batch["kept"])
    batch["embodiment"] = np.full(
        len(instructions), self.embodiment, np.int32)
    if self.state is None:
      batch["state"] = np.zeros_like(batch["state"])
      batch["state_mask"] = np.zeros_like(batch["state_mask"])
    else:
      batch["state"] = self._state(batch)
    return batch | self.model.read(
        self.language, instructions, batch["state"])

  def plan(self, keys: jax.Array, batch: interfaces.Batch) -> jax.Array:
    """The policy itself: normalised chunks f32[b,u,a] of key[b]."""
    return _compiled(self.model)(self.params, keys, batch)

  def _state(self, batch: dict[str, Any]) -> np.ndarray:
    """Normalised states, zero where unknown."""
    known = batch["state_mask"][..., None]
    if not np.isfinite(np.where(known, batch["state"], 0)).all():
      raise errors.DataError("A state that is said to be known holds NaN.")
    found = np.where(known, self.state.apply(batch["state"]), 0)
    off = np.where(self.state.scaled, np.abs(found), 0)
    if off.max(initial=0) > FAR:
      where = np.unravel_index(off.argmax(), off.shape)
      raise errors.DataError(
          f"Value {where[-1]} of the state is {batch['state'][where]:g}, "
          f"{off[where]:.0f} times as far off as what the policy "
          "learnt from: its statistics are of another dataset, robot or unit.")
    return found

  def _kept(self, given: Sequence[execution.Kept | None]) -> dict[str, Any]:
    """What each chunk has to begin with, normalised, as arrays."""
    if not getattr(self.model, "inpaints", False):
      raise errors.ConfigError(
          "This policy cannot be told what a chunk has to begin with: "
          "inpaint = False.")
    c = self.model.config
    steps = c.horizon - c.n_obs_steps + 1
    kept = np.zeros((len(given), steps, c.action_dim), np.float32)
    share = np.zeros(kept.shape[:2], np.float32)
    for row, each in enumerate(given):
      if each is not None:
        actions, firm = each
        kept[row, :len(actions)] = self.action.apply(actions)
        share[row, :len(actions)] = firm
    return {"kept": kept, "kept_share": share}


@functools.cache  # one compiled program for all weights of a model
def _compiled(model: interfaces.Policy) -> Any:
  return jax.jit(model.act)


class Language:
  """What policies read instructions with: a tokenizer or sentence vectors.

  Attributes:
    tokenizer: of the text encoder, or alone.
  """

  def __init__(self, tokenizer: Any,
               encode: Callable[[list[str]], np.ndarray] | None = None):
    """`encode`: n sentences -> states f32[n,m,d], zero past the end."""
    self.tokenizer = tokenizer
    self._encode, self._known = encode, {}

  @property
  def text_dim(self) -> int:
    """Width of the sentence vectors."""
    return self.sentences([""]).shape[1]

  def sentences(self, sentences: Sequence[str]) -> np.ndarray:
    """Means of the text encoder's states f32[n,d]; each is computed once.

    Raises:
      ConfigError: there is a tokenizer only.
    """
    if self._encode is None:
      raise errors.ConfigError(
          "This policy reads sentence vectors: let its section `text` name a "
          "world model, whose text encoder makes them, not a tokenizer.")
    new = sorted(set(sentences) - self._known.keys())
    if new:
      states = self._encode(new)
      count = np.any(states != 0, axis=-1).sum(axis=-1, keepdims=True)
      self._known |= dict(zip(
          new, states.sum(axis=1) / np.maximum(count, 1), strict=True))
    return np.stack([self._known[s] for s in sentences]).astype(np.float32)
