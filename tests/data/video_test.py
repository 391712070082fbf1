"""Tests of mp4 bytes."""

import numpy as np
import pytest

from dreamgen_jax import errors
from dreamgen_jax.data import video


def _colourful(num_frames=17, size=64):
  """Gradients with small saturated squares that move."""
  y, x = np.mgrid[:size, :size] * (64 / size)
  clip = np.zeros((num_frames, size, size, 3))
  for i, frame in enumerate(clip):
    frame[..., 0] = 120 + 60 * np.sin(x / 9 + i / 4)
    frame[..., 1], frame[..., 2] = 3 * x, 255 - 3 * y
    for j, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
      top, left = (5 + 15 * j + i // 2), (20 + 5 * j)
      scale = size // 64
      frame[scale * top:scale * (top + 8),
            scale * left:scale * (left + 8)] = colour
  return np.clip(clip, 0, 255).astype(np.uint8)


def _psnr(a, b):
  error = np.mean((a.astype(np.float64) - b) ** 2)
  return 10 * np.log10(255**2 / error)


def test_small_frames_keep_their_colours():
  clip = _colourful()
  decoded = video.decode(video.encode(clip, 4.0))
  assert decoded.shape == clip.shape and decoded.dtype == np.uint8
  assert _psnr(clip, decoded) > 45
  squares = decoded[0, 6:12, 21:27].reshape(-1, 3).astype(int)
  np.testing.assert_allclose(squares, [[255, 0, 0]] * 36, atol=12)


@pytest.mark.parametrize("size", [64, 192])
def test_same_frames_give_the_same_bytes(size):
  clip = _colourful(size=size)
  assert len({video.encode(clip, 10.0) for _ in range(3)}) == 1


def test_large_and_odd_sizes():
  clip = _colourful(5, 192)
  assert _psnr(clip, video.decode(video.encode(clip, 16.0))) > 28
  odd = clip[:, :191, :189]
  assert video.decode(video.encode(odd, 16.0)).shape == odd.shape


def test_indices_equal_a_full_decode():
  clip = _colourful(50, 32)
  data = video.encode(clip, 12.5)
  full = video.decode(data)
  for indices in ([0], [49], [17, 3, 17], [33, 40], list(range(20, 37))):
    np.testing.assert_array_equal(video.decode(data, indices), full[indices])


def test_probe():
  assert video.probe(video.encode(_colourful(5, 32), 4.0)) == (5, 4.0, 32, 32)


@pytest.mark.parametrize("indices", [[5], [-1], []])
def test_bad_indices(indices):
  data = video.encode(_colourful(5, 32), 4.0)
  with pytest.raises(errors.DataError):
    video.decode(data, indices)


def test_damaged_bytes():
  data = video.encode(_colourful(40), 4.0)
  flipped = bytearray(data)
  for i in range(2000, 6000, 7):
    flipped[i] ^= 0xFF
  for bad in (b"", b"not a video", data[: len(data) // 2], bytes(flipped)):
    with pytest.raises(errors.DataError):
      video.decode(bad)
  with pytest.raises(errors.DataError, match="Not a readable video"):
    video.probe(b"not a video")


@pytest.mark.parametrize("frames, hz, words", [
    (np.zeros((2, 8, 8, 3), np.float32), 4.0, "uint8"),
    (np.zeros((8, 8, 3), np.uint8), 4.0, "uint8"),
    (np.zeros((0, 8, 8, 3), np.uint8), 4.0, "at least one"),
    (np.zeros((2, 8, 8, 3), np.uint8), 0.0, "positive"),
])
def test_bad_input(frames, hz, words):
  with pytest.raises(errors.DataError, match=words):
    video.encode(frames, hz)
