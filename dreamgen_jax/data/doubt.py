"""How much a doubtful label counts."""

import numpy as np


def relative(doubt: np.ndarray, scale: np.ndarray) -> np.ndarray:
  """Doubt per step in units of the actions' own deviation, float64[n].

  The mean over dimensions of doubt / scale; what never moves is left out.

  Args:
    doubt: f32[n,a], an episode's spread or disagreement.
    scale: float[a], the standard deviation of actions.
  """
  moves = scale > 0
  if not moves.any():
    return np.zeros(len(doubt))
  return (doubt[:, moves] / scale[moves]).mean(axis=1)


def weights(doubt: np.ndarray, scale: np.ndarray, half: float) -> np.ndarray:
  """Shares of steps in a loss, float64[n]: 1 / (1 + (r / half)^2).

  r is `relative`; a label that is certain counts 1, one of r = half a half.
  The rule is that of weighting by the inverse variance, with half^2 for what
  even a certain label may be wrong by.
  """
  return 1 / (1 + (relative(doubt, scale) / half) ** 2)
