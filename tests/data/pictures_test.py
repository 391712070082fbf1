"""Pictures are decoded where they are wanted, and are of one size."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from dreamgen_jax import errors
from dreamgen_jax.data import pictures, ranges


def _parts(*data):
  return [ranges.Part.of(each) for each in data]


def _jpeg(height, value, **kw):
  return simplejpeg.encode_jpeg(
      np.full((height, 8, 1 if kw else 3), value, np.uint8), **kw)


def test_pictures_of_any_kind_lie_where_they_are_put():
  file = io.BytesIO()
  Image.fromarray(np.full((8, 8), 90, np.uint8)).save(file, "PNG")
  place = np.zeros((3, 8, 8, 3), np.uint8)
  found = pictures.decode(
      _parts(_jpeg(8, 30), file.getvalue(), _jpeg(8, 60, colorspace="GRAY")),
      lambda shape, dtype: place)
  assert found is place
  assert np.ptp(place, axis=(1, 2, 3)).max() == 0
  np.testing.assert_array_equal(place[:, 0, 0, 0], [30, 90, 60])


@pytest.mark.parametrize("heights", [(8, 6), (6, 8)])
def test_pictures_of_two_sizes(heights):
  with pytest.raises(errors.DataError, match=(
      f"8x{heights[1]} pixels, the first one 8x{heights[0]}")):
    pictures.decode(_parts(*[_jpeg(height, 0) for height in heights]))
