"""Camera pixels -> what a vision tower reads, inside the network.

u8 -> [0, 1] -> crop (random in training, else centred) -> resize -> colour
jitter (training) -> optionally a second resize -> [-1, 1]. All frames and
views of one sample share one crop and one jitter, or motion would be invented.

GR00T's networks come from pipelines of two resizes with 8 bits between them
(labelers: 243 -> 224, then SigLIP's own 224 -> 256; policies: 243 -> 224, and
then nothing is left to do); `resizes` lists the sizes, so that both that and a
single resize are the same code.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax import errors, types


@dataclasses.dataclass(frozen=True)
class Config:
  """How images are prepared.

  Attributes:
    resizes: side lengths after each resize; the last one is the tower's.
    crop: side of the square that is cut out, as a part of the image's.
    shift: largest random shift in training, in pixels of the given image,
      edges repeated; for absolute targets a better choice than a random crop.
    jitter: largest change of brightness, contrast, saturation and hue in
      training (hue in turns); zeros switch it off.
  """

  resizes: tuple[int, ...] = (224, 256)
  crop: float = 0.95
  shift: int = 0
  jitter: tuple[float, float, float, float] = (0.3, 0.4, 0.5, 0.08)

  def __post_init__(self):
    if not self.resizes or not 0 < self.crop <= 1 or self.shift < 0:
      raise errors.ConfigError(
          f"An image path needs sizes, a crop in (0, 1] and a shift >= 0; got "
          f"{self}.")


def prepare(
    config: Config, images: types.Array, rng: types.Array | None = None
) -> types.Array:
  """u8[b,...,h,w,3], square -> f32[b,...,s,s,3] in [-1, 1].

  Args:
    config: see above.
    images: upright RGB; the axes between b and h (frames, views) are shared.
    rng: augments when given.

  Raises:
    DataError: the images are not square.
  """
  side = images.shape[-2]
  if images.shape[-3] != side:
    raise errors.DataError(
        f"This network reads square images; got {images.shape[-3]}x{side}. "
        "Letter-box them first.")
  x = images.astype(jnp.float32) / 255
  if rng is not None:
    shift_rng, crop_rng, jitter_rng = jax.random.split(rng, 3)
    x = _shift(x, shift_rng, config.shift)
  size = int(side * config.crop)
  if size < side:
    if rng is None:
      # The middle as torchvision rounds it: half to even.
      at = round((side - size) / 2)
      x = x[..., at:at + size, at:at + size, :]
    else:
      x = _cut(x, crop_rng, size)
  for number, target in enumerate(config.resizes):
    if number:  # between two resizes the release stores 8-bit images
      x = jnp.floor(x * 255) / 255
    x = resize(x, target)
    if not number and rng is not None and any(config.jitter):
      x = jitter(x, jitter_rng, config.jitter)
  if len(config.resizes) > 1:
    x = jnp.round(x * 255) / 255
  return (x - 0.5) / 0.5


def resize(x: types.Array, size: int) -> types.Array:
  """f32[...,h,w,c] -> f32[...,size,size,c], bilinear with antialiasing."""
  for axis in (-3, -2):
    if x.shape[axis] != size:
      weight = jnp.asarray(_triangle(x.shape[axis], size))
      x = jnp.moveaxis(
          jnp.tensordot(x, weight, [[axis], [1]]), -1, axis)
  return x


def _triangle(old: int, new: int) -> np.ndarray:
  """f32[new, old]: the weights of a resize along one axis."""
  scale = max(old / new, 1.0)
  centre = (np.arange(new) + 0.5) * old / new - 0.5
  weight = np.maximum(
      0.0, 1.0 - np.abs(np.arange(old) - centre[:, None]) / scale)
  return (weight / weight.sum(1, keepdims=True)).astype(np.float32)


def _shift(x, rng, most):
  if not most:
    return x
  sides = [(0, 0)] * (x.ndim - 3) + [(most, most)] * 2 + [(0, 0)]
  return _cut(jnp.pad(x, sides, mode="edge"), rng, x.shape[-2])


def _cut(x, rng, size):
  """A random size x size square per sample, the same for all its images."""
  at = jax.random.randint(
      rng, (x.shape[0], 2), 0, x.shape[-2] - size + 1)  # b 2

  def cut(x, at):
    start = (*[0] * (x.ndim - 3), at[0], at[1], 0)
    return jax.lax.dynamic_slice(
        x, start, (*x.shape[:-3], size, size, x.shape[-1]))

  return jax.vmap(cut)(x, at)


def jitter(
    x: types.Array, rng: types.Array,
    amount: tuple[float, float, float, float],
) -> types.Array:
  """Colour jitter of f32[b,...,h,w,3] in [0, 1], one draw per sample.

  Brightness, contrast and saturation are scaled by factors in 1 +- amount,
  the hue is turned by up to +- amount; the order is drawn per batch.
  """
  order_rng, rng = jax.random.split(rng)
  low = jnp.asarray([1 - a for a in amount[:3]] + [-amount[3]])
  high = jnp.asarray([1 + a for a in amount[:3]] + [amount[3]])
  draw = jax.random.uniform(
      rng, (x.shape[0], 4), minval=low, maxval=high)  # b 4
  draw = draw.reshape(-1, *[1] * (x.ndim - 1), 4)

  def blend(x, other, factor):
    return jnp.clip(factor * x + (1 - factor) * other, 0, 1)

  def brightness(x):
    return blend(x, 0.0, draw[..., 0])

  def contrast(x):
    mean = _luma(x).mean((-3, -2, -1), keepdims=True)
    return blend(x, mean, draw[..., 1])

  def saturation(x):
    return blend(x, _luma(x), draw[..., 2])

  def hue(x):
    return turn_hue(x, draw[..., 3])

  steps = [brightness, contrast, saturation, hue]
  order = jax.random.permutation(order_rng, 4)
  return jax.lax.fori_loop(
      0, 4, lambda i, x: jax.lax.switch(order[i], steps, x), x)


def _luma(x):
  return x @ jnp.asarray([[0.299], [0.587], [0.114]])  # BT.601


def turn_hue(x: types.Array, turn: types.Array) -> types.Array:
  """Turns the HSV hue of f32[...,3] in [0, 1] by f32[...,1] `turn` turns."""
  value = x.max(-1, keepdims=True)
  chroma = value - x.min(-1, keepdims=True)
  safe = jnp.where(chroma == 0, 1.0, chroma)
  red, green, blue = jnp.split(x, 3, -1)
  sector = jnp.where(
      value == red, (green - blue) / safe,
      jnp.where(value == green, 2 + (blue - red) / safe,
                4 + (red - green) / safe))  # ..., 1
  # A channel falls from value to value - chroma as the hue leaves its own.
  away = jnp.mod(
      jnp.asarray([5.0, 3.0, 1.0]) + sector + 6 * turn, 6)  # ..., 3
  fall = jnp.clip(jnp.minimum(away, 4 - away), 0, 1)
  return value - chroma * fall
