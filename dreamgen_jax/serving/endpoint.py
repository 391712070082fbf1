"""A policy as a server sees it: named arrays in, a chunk of actions out."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from dreamgen_jax import agent as agent_lib
from dreamgen_jax import errors, types
from dreamgen_jax.data import images

_HELD = 2**32  # noise keys until they repeat


@dataclasses.dataclass(eq=False)
class Endpoint:
  """Requests to and answers from an agent.

  Attributes:
    agent: the policy with its units and its robot.
    seed: root of the policy's noise; each request has a key of its own.
    batch_size: most requests per call; calls of several are filled up to it,
      so that there are two programs, which `warm` compiles.
  """

  agent: agent_lib.Agent
  seed: int = 0
  batch_size: int = 8
  _count: int = 0

  def warm(self) -> None:
    """Compiles the programs."""
    c = self.agent.model.config
    blank = {f"image/{camera}": np.zeros(
        (c.n_obs_steps, *c.image_size, 3), np.uint8) for camera in c.cameras}
    ready = self._ready(blank | {
        "state": np.zeros((c.n_obs_steps, self.agent.robot.state_dim),
                          np.float32),
        "state_mask": np.zeros(c.n_obs_steps, bool)}, "")
    for size in sorted({1, self.batch_size}):
      self([ready] * size)

  def observation(self, pictures: Mapping[str, Any], state: Any,
                  instruction: Any) -> dict[str, Any]:
    """An observation as the policy reads it, but for the batch axis.

    Whatever is wrong with it shows here, where it costs no one else's answer.

    Args:
      pictures: camera -> u8[h,w,3] or u8[o,h,w,3] of any size; one picture
        stands for the whole history.
      state: float[s] or float[o,s] in the robot's units; None if unknown,
        which a policy that has learnt from states refuses.
      instruction: what the robot is told.

    Raises:
      UserError: a camera is missing, something is of another shape or kind, or
        see `agent.Agent.prepare`.
    """
    c, o = self.agent.model.config, self.agent.model.config.n_obs_steps
    found: dict[str, Any] = {}
    for camera in c.cameras:
      if camera not in pictures:
        raise errors.DataError(
            f"The observation lacks the camera {camera!r}; it has "
            f"{', '.join(map(repr, pictures)) or 'none'}.")
      picture = np.asarray(pictures[camera])
      if picture.dtype != np.uint8 or picture.ndim not in (3, 4) or (
          picture.shape[-1] != 3):
        raise errors.DataError(
            f"Images of {camera!r} must be uint8[h, w, 3] or uint8[{o}, h, w, "
            f"3], not {picture.dtype}{list(picture.shape)}.")
      picture = images.resize(picture, *c.image_size)
      found[f"image/{camera}"] = _history(camera, picture, o, picture.ndim == 3)
    if not isinstance(instruction, str):
      raise errors.DataError(
          f"The instruction must be text, not {type(instruction).__name__}.")
    if state is None and self.agent.state is not None:
      raise errors.DataError(
          "The observation has no state, and the policy has learnt from "
          f"states of {self.agent.robot.state_dim} values.")
    values = np.zeros(self.agent.robot.state_dim) if state is None else (
        np.asarray(state))
    if values.dtype.kind not in "biuf" or values.ndim not in (1, 2) or (
        values.shape[-1] != self.agent.robot.state_dim):
      raise errors.DataError(
          f"The state must be {self.agent.robot.state_dim} numbers, not "
          f"{values.dtype}{list(values.shape)}.")
    if not np.isfinite(values).all():
      raise errors.DataError("The state holds NaN or an infinity.")
    found["state"] = _history(
        "state", values.astype(np.float32), o, values.ndim == 1)
    found["state_mask"] = np.full(o, state is not None)
    return self._ready(found, instruction)

  def _ready(self, found: dict[str, Any], instruction: str) -> dict[str, Any]:
    batch = {name: leaf[None] for name, leaf in found.items()}
    return {name: np.asarray(leaf)[0] for name, leaf in self.agent.prepare(
        batch | {"instruction": [instruction]}).items()}

  def __call__(self, requests: Sequence[dict[str, Any]]) -> list[np.ndarray]:
    """Observations of `observation` -> chunks f32[u,a], one each."""
    count = len(requests)
    size = 1 if count == 1 else self.batch_size
    rows = [*requests, *[requests[0]] * (size - count)]
    batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    numbers = np.arange(self._count, self._count + size) % _HELD
    self._count += count
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
        jax.random.key(self.seed), numbers.astype(np.uint32))
    chunks = self.agent.action.undo(np.asarray(self.agent.plan(keys, batch)))
    if not np.isfinite(chunks[:count]).all():
      raise errors.UserError("The policy's actions are not finite.")
    return list(chunks[:count])


def _history(name: str, values: np.ndarray, o: int,
             single: bool) -> np.ndarray:
  """[...] or [o, ...] -> [o, ...]."""
  values = values[None] if single else values
  if len(values) not in (1, o):
    raise errors.DataError(
        f"{name} has {len(values)} steps of history; the policy sees {o}.")
  return np.broadcast_to(values, (o, *values.shape[1:]))


def slices(keys: Sequence[types.Key]) -> dict[str, slice]:
  """Key -> where it lies in the vector."""
  ends = np.cumsum([key.dims for key in keys]).tolist()
  return {key.name: slice(end - key.dims, end)
          for key, end in zip(keys, ends, strict=True)}
