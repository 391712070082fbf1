"""From chunks of actions to the actions that are executed.

A chunk is planned at one step and executed for some; how plans follow one
another is a `Way`. Temporal ensembling averages all that was ever planned for a
step (ACT, arXiv 2304.13705). Real-time chunking (arXiv 2506.07339) plans while
the last chunk is still executed: what will be executed meanwhile is frozen, and
the new chunk is painted on from there.
"""

import dataclasses

import numpy as np

from dreamgen_jax import errors

Kept = tuple[np.ndarray, np.ndarray]  # actions f32[n,a], how firmly f32[n]


@dataclasses.dataclass(frozen=True)
class Way:
  """How chunks are executed.

  Attributes:
    execute_steps: actions from one plan to the next.
    ensemble: m of the weights exp(-m i) of temporal ensembling, where i = 0
      is the oldest plan; needs execute_steps = 1. None executes the newest.
    delay: steps that pass until a plan is ready; meanwhile the plan before is
      executed.
    inpaint: plans begin with what the plan before would do, firmly for `delay`
      steps and ever less after.
  """

  execute_steps: int
  ensemble: float | None = None
  delay: int = 0
  inpaint: bool = False

  def __post_init__(self):
    if self.execute_steps < 1 or not 0 <= self.delay <= self.execute_steps:
      raise errors.ConfigError(
          f"execute_steps = {self.execute_steps} must be at least 1, and delay "
          f"= {self.delay} must lie between 0 and it.")
    if self.ensemble is not None and (
        self.execute_steps > 1 or self.delay or self.inpaint):
      raise errors.ConfigError(
          "Temporal ensembling plans at every step: execute_steps = 1, no "
          "delay, no inpainting.")

  def check(self, planned: int) -> None:
    """Raises ConfigError: a plan is too short."""
    if planned < self.execute_steps + self.delay:
      raise errors.ConfigError(
          f"execute_steps = {self.execute_steps}"
          + (f" and delay = {self.delay}" if self.delay else "")
          + f", but the policy plans only {planned} steps from the current "
          "one on.")


class Execution:
  """What one trial has planned."""

  def __init__(self, way: Way):
    self._way = way
    self._plans: list[np.ndarray] = []  # f32[n,a], from now on; oldest first

  def kept(self) -> Kept | None:
    """What the next plan has to begin with."""
    if not self._way.inpaint or not self._plans:
      return None
    rest = self._plans[-1]
    return rest, firmness(len(rest), self._way.delay, self._way.execute_steps)

  def __call__(self, chunk: np.ndarray) -> np.ndarray:
    """A plan f32[u,a] from now on -> the actions until the next one.

    Raises:
      ConfigError: the plan is too short.
    """
    way = self._way
    way.check(len(chunk))
    if way.ensemble is not None:
      return self._average(chunk, way.ensemble)[None]
    now = chunk[:way.execute_steps]
    if way.delay and self._plans:
      now = np.concatenate([self._plans[-1][:way.delay], now[way.delay:]])
    self._plans = [chunk[way.execute_steps:]]
    return now

  def _average(self, chunk: np.ndarray, m: float) -> np.ndarray:
    plans = [*self._plans, chunk]
    weights = np.exp(-m * np.arange(len(plans)))
    action = np.einsum("i,ia->a", weights / weights.sum(),
                       np.stack([plan[0] for plan in plans]))
    self._plans = [plan[1:] for plan in plans if len(plan) > 1]
    return action


def firmness(count: int, delay: int, execute_steps: int) -> np.ndarray:
  """How firmly each of the steps planned before is kept, f32[count] in [0, 1].

  1 for what is executed before the plan is ready, 0 for the `execute_steps`
  last, which the new plan is free in, and falling between.
  """
  step = np.arange(count)
  overlap = count - execute_steps
  share = np.clip((overlap - step) / max(overlap - delay + 1, 1), 0, 1)
  soft = share * np.expm1(share) / np.expm1(1)
  return np.where(step < delay, 1.0, soft).astype(np.float32)
