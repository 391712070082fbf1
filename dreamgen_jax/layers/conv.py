"""Causal 3-D convolution over video, channels last.

Reads [b, f, h, w, c]; a frame sees itself and frames before it. The same sum
is written in two ways: one native 3-D convolution (accelerators), or a 2-D
one whose input channels hold the temporal taps and whose batch holds the
frames (CPU, where XLA runs it three to four times as fast).

A clip may be run in chunks: `in_chunks` hands each chunk the last frames that
every causal layer saw of the chunk before, so that nothing changes.
"""

import functools
from collections.abc import Callable, Sequence
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
      what is fast on the platform that it is compiled for.

  Returns:
    [b, f', h', w', features]; f' is 0 where the clip is too short.
  """
  by_2d = functools.partial(_conv3d_by_2d, strides=strides, padding=padding)
  by_3d = functools.partial(
      jax.lax.conv_general_dilated, window_strides=strides, padding=padding,
      dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))
  if native is None:
    return jax.lax.platform_dependent(x, kernel, cpu=by_2d, default=by_3d)
  return (by_3d if native else by_2d)(x, kernel)


def _conv3d_by_2d(x, kernel, *, strides, padding):
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


class History:
  """What causal layers saw last; one object serves one call of a network.

  Attributes:
    past: layer's path -> [b, k, h, w, c], the frames that the chunk before
      left; None where the clip starts.
    left: the same for the chunk to come, filled by the call.
  """

  def __init__(self, past: dict[str, types.Array] | None = None):
    self.past = past
    self.left: dict[str, types.Array] = {}

  def prepend(self, path: Sequence[str], x: types.Array, zeros: int,
              keep: int) -> types.Array:
    """Puts in front of a layer's input what came before it.

    Args:
      path: the layer's.
      x: [b, f, h, w, c].
      zeros: frames of zeros in front where the clip starts.
      keep: frames that the next chunk needs in front.

    Returns:
      [b, f', h, w, c].
    """
    name = "/".join(path)
    if self.past is None:
      x = jnp.pad(x, ((0, 0), (zeros, 0), (0, 0), (0, 0), (0, 0)))
    else:
      x = jnp.concatenate([self.past[name], x], axis=1)  # b (keep+f) h w c
    self.left[name] = x[:, x.shape[1] - keep :]
    return x


def starts(history: History | None) -> bool:
  """Whether a layer's input begins with the clip's first frame."""
  return history is None or history.past is None


def in_chunks(
    network: Callable[[types.Array, History], types.Array],
    x: types.Array,
    first: int,
    step: int,
) -> types.Array:
  """Runs a causal network over a clip, some frames at a time.

  Memory grows with the clip only by what goes in and comes out.

  Args:
    network: of a chunk [b, f, h, w, c] and a history; returns
      [b, f', h', w', c'].
    x: [b, first + n * step, h, w, c].
    first: frames of the first chunk.
    step: frames of each other one.

  Returns:
    [b, f', h', w', c'], as of the whole clip at once.
  """
  history = History()
  head = network(x[:, :first], history)
  if x.shape[1] == first:
    return head

  def body(past, chunk):
    history = History(past)
    y = network(chunk, history)
    return history.left, y

  rest = rearrange(x[:, first:], "b (n f) h w c -> n b f h w c", f=step)
  _, rest = jax.lax.scan(body, history.left, rest)
  rest = rearrange(rest, "n b f h w c -> b (n f) h w c")
  return jnp.concatenate([head, rest], axis=1)


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
  def __call__(self, x: types.Array,
               history: History | None = None) -> types.Array:
    """[b, f, h, w, c], and what came before -> [b, f', h', w', features]."""
    shape = (*self.kernel_size, x.shape[-1], self.features)
    kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
    bias = self.param(
        "bias", nn.initializers.zeros_init(), (self.features,), jnp.float32
    )
    front = self.kernel_size[0] - 1 if self.pad_time is None else self.pad_time
    keep = self.kernel_size[0] - self.strides[0]
    x = x.astype(self.dtype)
    if history is not None and keep:
      x, front = history.prepend(self.path, x, front, keep), 0
    x = conv3d(
        x,
        kernel.astype(self.dtype),
        strides=self.strides,
        padding=((front, 0), *self.pad_space),
    )  # b f h w features
    return x + bias.astype(self.dtype)
