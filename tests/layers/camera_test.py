"""The image path: resizes against Pillow's, one augmentation per sample."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dreamgen_jax import errors
from dreamgen_jax.layers import camera


def _pictures(shape):
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _pillow(channel, size):
  image = Image.fromarray(channel, mode="F" if channel.ndim == 2 else "RGB")
  return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


@pytest.mark.filterwarnings("ignore:'mode' parameter")
def test_released_path_in_evaluation():
  picture = _pictures((1, 2, 1, 256, 256, 3))
  got = camera.prepare(camera.Config(), jnp.asarray(picture))
  assert got.shape == (1, 2, 1, 256, 256, 3)
  cut = picture[0, 1, 0, 6:249, 6:249].astype(np.float32) / 255
  small = np.stack([_pillow(np.ascontiguousarray(cut[..., c]), 224)
                    for c in range(3)], -1)
  large = _pillow((small * 255).astype(np.uint8), 256) / 127.5 - 1
  # Pillow rounds to 8 bits between the two axes of its resize.
  difference = np.abs(got[0, 1, 0] - large) * 127.5
  assert difference.max() <= 1.01
  assert difference.mean() < 0.25


def test_nothing_happens_to_an_image_of_the_right_size():
  c = camera.Config(resizes=(64,), crop=1.0)
  picture = _pictures((2, 2, 1, 64, 64, 3))
  np.testing.assert_allclose(
      camera.prepare(c, jnp.asarray(picture)), picture / 127.5 - 1, atol=1e-6)


def test_frames_of_a_sample_move_together():
  c = camera.Config(resizes=(56,), crop=0.875)
  picture = np.broadcast_to(_pictures((1, 1, 1, 64, 64, 3)),
                            (6, 2, 2, 64, 64, 3))
  got = camera.prepare(c, jnp.asarray(picture), jax.random.key(0))
  np.testing.assert_array_equal(got[:, :1, :1].repeat(2, 1).repeat(2, 2), got)
  assert len({np.asarray(sample).tobytes() for sample in got}) == 6


def test_shift_keeps_the_size_and_repeats_edges():
  c = camera.Config(resizes=(64,), crop=1.0, shift=2, jitter=(0, 0, 0, 0))
  picture = np.arange(64, dtype=np.uint8)[None, :, None] * np.ones(
      (16, 1, 1, 64, 1, 3), np.uint8)
  got = camera.prepare(c, jnp.asarray(picture), jax.random.key(0))
  levels = np.rint((np.asarray(got) + 1) * 127.5)[:, 0, 0, 0, :, 0]
  moves = levels[:, 32] - 32
  assert set(moves) == {-2, -1, 0, 1, 2}
  for row, move in zip(levels, moves, strict=True):
    np.testing.assert_array_equal(row, np.clip(np.arange(64) + move, 0, 63))


def test_hue_turns_as_in_hsv():
  colours = np.random.default_rng(0).random((20, 3)).astype(np.float32)
  colours[0] = 0.4  # grey has no hue
  turns = np.linspace(-0.4, 0.4, 20, dtype=np.float32)[:, None]
  want = []
  for colour, turn in zip(colours, turns[:, 0], strict=True):
    hue, saturation, value = colorsys.rgb_to_hsv(*colour)
    want.append(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value))
  np.testing.assert_allclose(
      camera.turn_hue(colours, turns), want, atol=1e-5)


def test_jitter_stays_within_its_bounds():
  x = jnp.full((64, 1, 1, 2, 2, 3), 0.5)
  got = camera.jitter(x, jax.random.key(0), (0.3, 0.0, 0.0, 0.0))[:, 0, 0, 0, 0]
  assert np.all((got >= 0.35 - 1e-6) & (got <= 0.65 + 1e-6))
  assert np.ptp(got) > 0.2
  np.testing.assert_allclose(
      camera.jitter(x, jax.random.key(0), (0.0, 0.4, 0.5, 0.08)), x, atol=1e-5)


def test_what_does_not_fit_is_refused():
  with pytest.raises(errors.DataError, match="48x64"):
    camera.prepare(camera.Config(), jnp.zeros((1, 2, 1, 48, 64, 3), jnp.uint8))
  with pytest.raises(errors.ConfigError, match="crop"):
    camera.Config(crop=1.5)
