"""Tests of image sizes."""

import numpy as np
import pytest

from dreamgen_jax import errors
from dreamgen_jax.data import images


def test_area_is_the_mean_of_the_covered_pixels():
  rng = np.random.default_rng(0)
  clip = rng.integers(0, 256, (2, 3, 8, 12, 3), dtype=np.uint8)
  found = images.resize(clip, 4, 4)
  assert found.shape == (2, 3, 4, 4, 3)
  mean = clip.reshape(2, 3, 4, 2, 4, 3, 3).mean(axis=(3, 5))
  np.testing.assert_allclose(found, mean, atol=1)
  assert images.resize(clip, 8, 12) is clip


def test_bilinear_differs_and_is_smooth():
  step = np.zeros((2, 2, 3), np.uint8)
  step[:, 1] = 200
  found = images.resize(step, 2, 8, method="bilinear")[0, :, 0].astype(int)
  assert (np.diff(found) >= 0).all() and 0 < found[3] < 200
  assert set(np.unique(images.resize(step, 2, 8))) == {0, 200}


@pytest.mark.parametrize("shape, band", [((32, 64), (8, 24, 0, 32)),
                                         ((64, 32), (0, 32, 8, 24))])
def test_letter_box(shape, band):
  white = np.full((2, *shape, 3), 255, np.uint8)
  found = images.letter_box(white, 32)
  top, bottom, left, right = band
  expected = np.zeros((2, 32, 32, 3), np.uint8)
  expected[:, top:bottom, left:right] = 255
  np.testing.assert_array_equal(found, expected)


def test_bad_input():
  with pytest.raises(errors.DataError, match="uint8"):
    images.resize(np.zeros((4, 4, 3)), 2, 2)
  with pytest.raises(errors.DataError, match="area, bilinear"):
    images.resize(np.zeros((4, 4, 3), np.uint8), 2, 2, method="cubic")
