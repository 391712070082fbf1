"""Rotations as vectors (axis times angle, in rad), and the group they are of.

Euler angles cannot be averaged, nor vectors across half a turn: what is folded
or interpolated goes through matrices. Numpy only.
"""

import numpy as np


def matrix(vector: np.ndarray) -> np.ndarray:
  """Rotation vectors float[..., 3] -> matrices float64[..., 3, 3] (Rodrigues).
  """
  vector = np.asarray(vector, np.float64)
  angle = np.linalg.norm(vector, axis=-1)[..., None, None]
  x, y, z = np.moveaxis(vector, -1, 0)
  zero = np.zeros_like(x)
  cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(
      *x.shape, 3, 3)
  # sin(a) / a and (1 - cos a) / a^2, whole at a = 0.
  first = np.sinc(angle / np.pi)
  second = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
  return np.eye(3) + first * cross + second * cross @ cross


def vector(matrix: np.ndarray) -> np.ndarray:
  """Matrices float[..., 3, 3] -> vectors float64[..., 3] of at most pi."""
  m = np.asarray(matrix, np.float64)
  m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
  a = m[..., 2, 1] - m[..., 1, 2]
  b = m[..., 0, 2] - m[..., 2, 0]
  c = m[..., 1, 0] - m[..., 0, 1]
  p = m[..., 1, 0] + m[..., 0, 1]
  q = m[..., 0, 2] + m[..., 2, 0]
  r = m[..., 2, 1] + m[..., 1, 2]
  # The rows are the unit quaternion (w, x, y, z) times 4 w, 4 x, 4 y and 4 z;
  # the longest of them is never near zero (Shepperd, 1978).
  rows = np.stack([
      np.stack([1 + m00 + m11 + m22, a, b, c], -1),
      np.stack([a, 1 + m00 - m11 - m22, p, q], -1),
      np.stack([b, p, 1 - m00 + m11 - m22, r], -1),
      np.stack([c, q, r, 1 - m00 - m11 + m22], -1)], -2)  # ..., 4 4
  best = np.argmax(np.linalg.norm(rows, axis=-1), axis=-1)
  row = np.take_along_axis(rows, best[..., None, None], -2)[..., 0, :]
  row = row / np.linalg.norm(row, axis=-1, keepdims=True)
  row = np.where(row[..., :1] < 0, -row, row)
  sine = np.linalg.norm(row[..., 1:], axis=-1, keepdims=True)
  half = np.arctan2(sine, row[..., :1])
  return row[..., 1:] * np.where(sine > 0, 2 * half / np.where(
      sine > 0, sine, 1), 2.0)


def nearest(matrix: np.ndarray) -> np.ndarray:
  """The rotation nearest to any matrix float[..., 3, 3]: of a sum, the mean.

  That of the least squared chordal distance (Moakher, 2002).
  """
  left, _, right = np.linalg.svd(matrix)
  left[..., :, 2] *= np.linalg.det(left @ right)[..., None]
  return left @ right


def minus(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """The turn that leads from b to a, vectors [..., 3], as b's frame sees it."""
  return vector(np.swapaxes(matrix(b), -1, -2) @ matrix(a))


def plus(a: np.ndarray, turn: np.ndarray) -> np.ndarray:
  """Inverse of `minus`: a, then the turn; vectors [..., 3]."""
  return vector(matrix(a) @ matrix(turn))


def turn(quaternion: np.ndarray) -> np.ndarray:
  """Quaternions (x, y, z, w) -> vectors of an angle in [0, 2 pi].

  As robosuite and LIBERO's recordings have them: q and -q differ.
  """
  real = np.clip(quaternion[..., 3:], -1, 1)
  sine = np.sqrt(1 - real**2)
  return np.where(sine > 0, quaternion[..., :3] * 2 * np.arccos(real)
                  / np.where(sine > 0, sine, 1), 0.0)
