"""Random views and colours: what they change, and what they leave."""

import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax.layers import augment


def test_random_window_is_a_window_and_differs_between_samples():
  images = np.arange(2 * 2 * 6 * 6 * 1).reshape(2, 2, 6, 6, 1)
  seen = set()
  for i in range(20):
    out = np.asarray(augment.random_window(
        jax.random.key(i), jnp.asarray(images), 1, (6, 6)))
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), "edge")
    for b in range(2):
      found = [
          (y, x) for y in range(3) for x in range(3)
          if (padded[b, :, y:y + 6, x:x + 6] == out[b]).all()]
      assert len(found) == 1  # the same one in both observation steps
      seen.add(found[0])
  assert len(seen) == 9
  out = augment.center_window(images, (4, 2))
  np.testing.assert_array_equal(out, images[:, :, 1:5, 2:4])


def test_color_jitter_keeps_hue_and_range():
  image = np.zeros((2, 1, 2, 2, 3), np.float32)
  image[..., 0], image[..., 1], image[..., 2] = 0.6, 0.3, 0.2
  out = np.asarray(augment.color_jitter(jax.random.key(0), image, 0.3))
  assert out.min() >= 0 and out.max() <= 1
  assert (out[..., 0] > out[..., 1]).all() and (out[..., 1] > out[..., 2]).all()
  assert not np.allclose(out[0], out[1])
  np.testing.assert_allclose(
      augment.color_jitter(jax.random.key(0), image, 0.0), image, atol=1e-6)


def test_random_view_crops_turns_and_zooms():
  y, x = np.meshgrid(np.arange(8.0), np.arange(6.0), indexing="ij")
  ramps = np.stack([y, x], -1).astype(np.float32)  # each pixel's own place
  images = jnp.broadcast_to(ramps, (16, 2, 8, 6, 2))
  same = augment.random_view(jax.random.key(0), images, 1.0, 0.0)
  np.testing.assert_allclose(same, images, atol=1e-5)
  seen = np.asarray(
      augment.random_view(jax.random.key(0), images, 0.5, 10.0))
  np.testing.assert_array_equal(seen[:, 0], seen[:, 1])
  middle = seen[:, 0, 3:5, 2:4]  # far from edges, which are repeated
  down = middle[:, 1, 0] - middle[:, 0, 0]
  right = middle[:, 0, 1] - middle[:, 0, 0]
  for step in (down, right):
    np.testing.assert_allclose(np.linalg.norm(step, axis=-1), 0.5, atol=1e-4)
  angles = np.degrees(np.arctan2(down[:, 1], down[:, 0]))
  assert 5 < np.abs(angles).max() <= 10 and angles.min() < 0 < angles.max()
  shifts = middle.mean((1, 2)) - ramps.mean((0, 1))
  assert 1 < np.abs(shifts[:, 0]).max() <= 2  # (1 - share) / 2 of 8 rows
  assert 0.7 < np.abs(shifts[:, 1]).max() <= 1.5
