"""Training-time changes of images, and their counterpart at test time.

Random windows are Diffusion Policy's recipe (76 of 84 pixels); padding first,
as in DrQ (arXiv 2004.13649), keeps small images whole. pi0 crops a share, turns
it and zooms back. All observation steps of one sample get the same window and
colours, so that motion stays readable.
"""

from collections.abc import Sequence

import einops
import jax
import jax.numpy as jnp

# BT.601 luma, the grey that saturation mixes with.
_LUMA = (0.299, 0.587, 0.114)


def random_window(rng: jax.Array, images: jax.Array, pad: int,
                  size: tuple[int, int]) -> jax.Array:
  """[b, o, h, w, c] -> [b, o, *size, c]: a random window per sample.

  Args:
    rng: key.
    images: any dtype.
    pad: edge pixels repeated on every side before the window is chosen.
    size: height and width of the window, at most the padded image's.
  """
  b, o, h, w, c = images.shape
  images = jnp.pad(
      images, ((0, 0), (0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
  room = jnp.array([h + 2 * pad - size[0], w + 2 * pad - size[1]])
  corner = jax.random.randint(rng, (b, 2), 0, room + 1)

  def cut(image, corner):
    return jax.lax.dynamic_slice(
        image, (0, corner[0], corner[1], 0), (o, *size, c))

  return jax.vmap(cut)(images, corner)  # b o size c


def center_window(images: jax.Array, size: tuple[int, int]) -> jax.Array:
  """[b, o, h, w, c] -> [b, o, *size, c]: what `random_window` is at test time.
  """
  top = (images.shape[2] - size[0]) // 2
  left = (images.shape[3] - size[1]) // 2
  return images[:, :, top:top + size[0], left:left + size[1]]


def random_view(rng: jax.Array, images: jax.Array, share: float,
                degrees: float) -> jax.Array:
  """f32[b, o, h, w, c] -> the same shape: a cropped, turned, zoomed view.

  Args:
    rng: key.
    images: f32; edge pixels are repeated outside.
    share: sides of the random window, as a share of the image's.
    degrees: it is turned by at most this, either way.
  """
  b, _, h, w, _ = images.shape
  corner_rng, turn_rng = jax.random.split(rng)
  size = jnp.array([h, w], jnp.float32)
  center = (size - 1) / 2
  # How far the window's centre may lie from the image's.
  shifts = jax.random.uniform(corner_rng, (b, 2), minval=-1) * (
      (1 - share) / 2 * size)
  turns = jnp.deg2rad(
      jax.random.uniform(turn_rng, (b,), minval=-degrees, maxval=degrees))
  grid = jnp.stack(jnp.meshgrid(
      jnp.arange(h) - center[0], jnp.arange(w) - center[1], indexing="ij"))

  def look(image, shift, turn):
    cos, sin = jnp.cos(turn), jnp.sin(turn)
    rotation = jnp.array([[cos, -sin], [sin, cos]])
    at = share * jnp.einsum("ij,jhw->ihw", rotation, grid)
    at = at + (center + shift)[:, None, None]  # 2 h w

    def sample(channel):
      return jax.scipy.ndimage.map_coordinates(
          channel, at, order=1, mode="nearest")

    return jax.vmap(jax.vmap(sample), -1, -1)(image)  # o h w c

  return jax.vmap(look)(images, shifts, turns)


def color_jitter(rng: jax.Array, images: jax.Array,
                 strength: float | Sequence[float]) -> jax.Array:
  """Brightness, contrast and saturation of f32[b, o, h, w, 3] in [0, 1].

  Each factor is uniform in 1 +- strength, per sample; strength is one for all
  or one for each. Hue stays: the colour's name in the instruction selects the
  object.
  """
  strength = jnp.broadcast_to(jnp.asarray(strength), 3)[:, None]
  factors = jax.random.uniform(
      rng, (3, images.shape[0]), minval=1 - strength, maxval=1 + strength)
  brightness, contrast, saturation = einops.rearrange(
      factors, "n b -> n b 1 1 1 1")
  images = images * brightness
  grey = images @ jnp.asarray(_LUMA, images.dtype)  # b o h w
  mean = jnp.mean(grey, axis=(1, 2, 3))[:, None, None, None, None]
  images = mean + (images - mean) * contrast
  grey = mean + (grey[..., None] - mean) * contrast  # b o h w 1
  images = grey + (images - grey) * saturation
  return jnp.clip(images, 0, 1)
