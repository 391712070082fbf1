"""Closed-loop evaluation of a policy in Gymnasium environments.

Several environments walk in lock step in this process: one batched call of the
policy plans a chunk of actions for all, each environment executes its first
part, and so on (receding horizon; `execution` has other ways). A trial's noise
is keyed by its seed and step, so that its result does not depend on who shares
the batch.
"""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from dreamgen_jax import errors, execution, types

Act = Callable[[dict[str, Any], jax.Array], types.Array]


@dataclasses.dataclass(frozen=True)
class Trial:
  """One episode of a policy in a simulator.

  Attributes:
    seed: what the environment was reset with.
    success: the environment reported success at some step.
    steps: control steps taken.
    progress: the best partial credit on the way, in [0, 1]; success where the
      environment gives none.
    frames: u8[f, h, w, 3] of the first camera, the first observation included;
      None unless kept.
    instruction: what the policy was told.
  """

  seed: int
  success: bool
  steps: int
  progress: float
  frames: np.ndarray | None
  instruction: str


class _Slot:
  """One environment and the trial that it is in."""

  def __init__(self, env: Any, n_obs_steps: int, way: execution.Way):
    self.env, self._way = env, way
    self.active = False
    self._history = collections.deque(maxlen=n_obs_steps)

  def reset(self, index: int, seed: int, record: bool) -> None:
    observation, info = self.env.reset(seed=int(seed))
    self.index, self.seed, self.active = index, int(seed), True
    self.steps, self.success, self._progress = 0, False, None
    self.plans = execution.Execution(self._way)
    self.instruction = str(observation["language"])
    self._frames = [] if record else None
    self._history.clear()
    self._observe(observation, info)
    while len(self._history) < self._history.maxlen:  # repeats the first
      self._history.append(self._history[0])

  def step(self, action: np.ndarray, horizon: int) -> None:
    observation, _, terminated, truncated, info = self.env.step(action)
    self.steps += 1
    self._observe(observation, info)
    self.active = not (terminated or truncated or self.steps >= horizon)

  def stacked(self) -> dict[str, np.ndarray]:
    """The last observations, each leaf [o, ...]."""
    return {
        name: np.stack([seen[name] for seen in self._history])
        for name in self._history[0]
    }

  def trial(self) -> Trial:
    return Trial(
        seed=self.seed,
        success=self.success,
        steps=self.steps,
        progress=float(
            self.success if self._progress is None else self._progress),
        frames=None if self._frames is None else np.stack(self._frames),
        instruction=self.instruction,
    )

  def _observe(self, observation: dict[str, Any], info: dict[str, Any]) -> None:
    seen = {
        "image/" + name.removeprefix("image_"): np.asarray(leaf)
        for name, leaf in observation.items() if name.startswith("image_")
    }
    if self._frames is not None:
      self._frames.append(next(iter(seen.values())))
    seen["state"] = np.asarray(observation["state"], np.float32)
    seen["state_mask"] = np.asarray(True)
    self._history.append(seen)
    self.success = self.success or bool(info.get("success", False))
    if "progress" in info:
      self._progress = max(self._progress or 0.0, float(info["progress"]))


@jax.jit
def _keys(root: jax.Array, seeds: jax.Array, steps: jax.Array) -> jax.Array:
  fold_in = jax.random.fold_in
  return jax.vmap(lambda seed, step: fold_in(fold_in(root, seed), step))(
      seeds, steps)


def rollout(
    act: Act,
    make_env: Callable[[], Any],
    seeds: Sequence[int],
    *,
    horizon: int,
    way: execution.Way,
    n_obs_steps: int,
    record: int = 0,
    batch_size: int = 8,
    noise_seed: int = 0,
) -> list[Trial]:
  """Runs one trial per seed.

  Args:
    act: (observation, keys[b]) -> actions [b, u, a] in the environment's
      units, from the current step on. Observation leaves, b = batch_size:
      image/<camera> u8[b,o,h,w,3], state f32[b,o,s] in the environment's
      units, state_mask bool[b,o], instruction list of b strings; if
      way.inpaint also kept, a list of b `execution.Kept` or None.
    make_env: a Gymnasium environment with Dict observations image_<camera>,
      state and language, and info["success"] (info["progress"] if it has it).
      One is made per batch row and reset for several trials.
    seeds: of the trials.
    horizon: control steps after which a trial is stopped.
    way: how chunks are executed.
    n_obs_steps: observations that the policy sees; the first is repeated.
    record: how many trials of each outcome keep their frames, those that end
      first.
    batch_size: rows of every call of `act`; rows without a trial repeat
      another row, so that `act` is traced once.
    noise_seed: root of the policy's noise.

  Returns:
    Trials in the order of `seeds`.

  Raises:
    ConfigError: a chunk is too short.
    UserError: the policy's actions are not finite.
  """
  waiting = collections.deque(enumerate(seeds))
  trials: list[Trial | None] = [None] * len(seeds)
  root = jax.random.key(noise_seed)
  recorded = {True: 0, False: 0}
  slots: list[_Slot] = []
  try:
    while len(slots) < min(batch_size, len(seeds)):
      slots.append(_Slot(make_env(), n_obs_steps, way))
    while True:
      for slot in slots:
        if not slot.active and waiting:
          index, seed = waiting.popleft()
          slot.reset(index, seed, record > 0)
      active = [slot for slot in slots if slot.active]
      if not active:
        return trials

      # --- plan --------------------------------------------------------------
      rows = active + [active[0]] * (batch_size - len(active))
      stacked = [slot.stacked() for slot in rows]
      observation = {
          name: np.stack([row[name] for row in stacked])  # b o ...
          for name in stacked[0]
      }
      observation["instruction"] = [slot.instruction for slot in rows]
      if way.inpaint:
        observation["kept"] = [slot.plans.kept() for slot in rows]
      keys = _keys(
          root,
          np.asarray([slot.seed % 2**32 for slot in rows], np.uint32),
          np.asarray([slot.steps for slot in rows], np.uint32))
      chunks = np.asarray(act(observation, keys))
      _check(chunks, active)

      # --- execute -----------------------------------------------------------
      for row, slot in enumerate(active):
        for action in slot.plans(chunks[row]):
          if slot.active:
            slot.step(action, horizon)
        if not slot.active:
          trial = slot.trial()
          if recorded[trial.success] >= record:
            trial = dataclasses.replace(trial, frames=None)
          recorded[trial.success] += 1
          trials[slot.index] = trial
  finally:
    for slot in slots:
      slot.env.close()


def _check(chunks: np.ndarray, active: list[_Slot]) -> None:
  for row, slot in enumerate(active):
    if not np.isfinite(chunks[row]).all():
      raise errors.UserError(
          f"The policy's actions are not finite in the trial with seed "
          f"{slot.seed} at step {slot.steps}.")
