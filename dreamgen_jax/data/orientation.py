"""How recordings write a rotation down, and one way of writing into another.

  axis_angle        3  axis times angle, rad
  euler_rpy         3  roll, pitch, yaw about the fixed axes x, y, z:
                       Rz(yaw) Ry(pitch) Rx(roll), as ROS and DROID write it
  euler_xyz         3  about the moving axes: Rx(a) Ry(b) Rz(c), as GR00T reads
                       its "rpy"
  quaternion_wxyz   4  real part first
  quaternion_xyzw   4  real part last, as robosuite writes it
  rotation_6d       6  the first two rows of the matrix (Zhou et al., 2019)
  matrix            9  row by row
"""

import numpy as np

from dreamgen_jax import errors, registry
from dreamgen_jax.data import rotation

DIMS = {"axis_angle": 3, "euler_rpy": 3, "euler_xyz": 3, "quaternion_wxyz": 4,
        "quaternion_xyzw": 4, "rotation_6d": 6, "matrix": 9}


def check(name: str) -> None:
  """Raises DataError, with the nearest known one, at an unknown name."""
  if name not in DIMS:
    raise errors.DataError(
        f"Unknown rotation {name!r}; have: {', '.join(DIMS)}."
        + registry.nearest(name, list(DIMS)))


def convert(values: np.ndarray, old: str, new: str) -> np.ndarray:
  """Rotations float[..., DIMS[old]] -> float64[..., DIMS[new]].

  Raises:
    DataError: an unknown name.
  """
  check(old)
  check(new)
  values = np.asarray(values, np.float64)
  return values if old == new else from_matrix(to_matrix(values, old), new)


def to_matrix(values: np.ndarray, name: str) -> np.ndarray:
  """float[..., DIMS[name]] -> matrices float64[..., 3, 3]."""
  if name == "axis_angle":
    return rotation.matrix(values)
  if name == "matrix":
    return values.reshape(*values.shape[:-1], 3, 3)
  if name == "rotation_6d":
    first = _unit(values[..., :3])
    second = values[..., 3:]
    second = _unit(second - first * (first * second).sum(-1, keepdims=True))
    return np.stack([first, second, np.cross(first, second)], axis=-2)
  if name.startswith("quaternion"):
    if name == "quaternion_xyzw":
      values = np.roll(values, 1, axis=-1)
    values = _unit(values)
    sine = np.linalg.norm(values[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, values[..., :1])
    return rotation.matrix(
        values[..., 1:] * angle / np.where(sine > 0, sine, 1))
  x, y, z = (rotation.matrix(values[..., i:i + 1] * np.eye(3)[i])
             for i in range(3))
  return z @ y @ x if name == "euler_rpy" else x @ y @ z


def from_matrix(matrix: np.ndarray, name: str) -> np.ndarray:
  """Inverse of `to_matrix`; Euler angles with the middle one within pi / 2."""
  if name == "axis_angle":
    return rotation.vector(matrix)
  if name == "matrix":
    return matrix.reshape(*matrix.shape[:-2], 9)
  if name == "rotation_6d":
    return matrix[..., :2, :].reshape(*matrix.shape[:-2], 6)
  if name.startswith("quaternion"):
    vector = rotation.vector(matrix)
    half = np.linalg.norm(vector, axis=-1, keepdims=True) / 2
    wxyz = np.concatenate(
        [np.cos(half), vector / 2 * np.sinc(half / np.pi)], axis=-1)
    return np.roll(wxyz, -1, axis=-1) if name == "quaternion_xyzw" else wxyz
  if name == "euler_rpy":
    # Fixed axes backwards are moving axes of the inverse, with signs turned.
    return -from_matrix(np.swapaxes(matrix, -1, -2), "euler_xyz")
  sine = np.clip(matrix[..., 0, 2], -1, 1)
  locked = 1 - np.abs(sine) < 1e-9  # then only a sum of two angles is known
  a = np.where(locked, np.arctan2(matrix[..., 2, 1], matrix[..., 1, 1]),
               np.arctan2(-matrix[..., 1, 2], matrix[..., 2, 2]))
  c = np.where(locked, 0, np.arctan2(-matrix[..., 0, 1], matrix[..., 0, 0]))
  return np.stack([a, np.arcsin(sine), c], axis=-1)


def _unit(vectors: np.ndarray) -> np.ndarray:
  length = np.linalg.norm(vectors, axis=-1, keepdims=True)
  return vectors / np.where(length > 0, length, 1)
