"""Causal 3-D convolution over video, channels last.

Reads [b, f, h, w, c]; a frame sees itself and frames before it. The same sum
is written in two ways: one native 3-D convolution (accelerators), or a 2-D
one whose input channels hold the temporal taps and whose batch holds the
frames (CPU, where XLA runs it three to four times as fast).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from dreamgen_jax import types

Pad = tuple[int, int]


def conv3d(
    x: types.Array,
    kernel: types.Array,
    *,
    strides: Sequence[int] = (1, 1, 1),
    padding: Sequence[Pad] = ((0, 0), (0, 0), (0, 0)),
    native: bool | None = None,
) -> types.Array:
  """3-D cross-correlation.

  Args:
    x: [b, f, h, w, c].
    kernel: [time, height, width, c, features].
    strides: of time, height, width.
    padding: zeros (before, after) in time, height, width.
    native: one 3-D convolution (True) or the 2-D form (False); None takes
      what is fast on the default backend.

  Returns:
    [b, f', h', w', features]; f' is 0 where the clip is too short.
  """
  if native is None:
    native = jax.default_backend() != "cpu"
  if native:
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )
  return _conv3d_by_2d(x, kernel, strides, padding)


def _conv3d_by_2d(x, kernel, strides, padding):
  """conv3d with the taps of time in the channels, the frames in the batch."""
  batch, taps, step = x.shape[0], kernel.shape[0], strides[0]
  if padding[0] != (0, 0):
    x = jnp.pad(x, ((0, 0), padding[0], (0, 0), (0, 0), (0, 0)))
  frames = max(0, (x.shape[1] - taps) // step + 1)
  if taps > 1 or step > 1:
    span = step * (frames - 1) + 1 if frames else 0
    shifted = [x[:, tap : tap + span : step] for tap in range(taps)]
    x = jnp.concatenate(shifted, axis=-1)  # b f h w (taps c)
  x = rearrange(x, "b f h w c -> (b f) h w c")
  kernel = rearrange(kernel, "taps h w c o -> h w (taps c) o")
  x = jax.lax.conv_general_dilated(
      x, kernel, strides[1:], padding[1:],
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  return x.reshape(batch, frames, *x.shape[1:])


class CausalConv3d(nn.Module):
  """3-D convolution with zeros for the frames before the first.

  Attributes:
    features: channels of the output.
    kernel_size: of time, height, width.
    strides: of time, height, width.
    pad_time: zero frames in front; None keeps the number of frames.
    pad_space: zero pixels (before, after) in height and width.
    dtype: of the computation; parameters are float32.
  """

  features: int
  kernel_size: tuple[int, int, int] = (3, 3, 3)
  strides: tuple[int, int, int] = (1, 1, 1)
  pad_time: int | None = None
  pad_space: tuple[Pad, Pad] = ((1, 1), (1, 1))
  dtype: Any = jnp.float32
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b, f, h, w, c] -> [b, f', h', w', features]."""
    shape = (*self.kernel_size, x.shape[-1], self.features)
    kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
    bias = self.param(
        "bias", nn.initializers.zeros_init(), (self.features,), jnp.float32
    )
    front = self.kernel_size[0] - 1 if self.pad_time is None else self.pad_time
    x = conv3d(
        x.astype(self.dtype),
        kernel.astype(self.dtype),
        strides=self.strides,
        padding=((front, 0), *self.pad_space),
    )  # b f h w features
    return x + bias.astype(self.dtype)
