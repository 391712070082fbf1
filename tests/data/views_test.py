"""Several cameras as one picture, and back."""

import numpy as np
import pytest

from dreamgen_jax import errors
from dreamgen_jax.data import views


def _video(names, size=8):
  random = np.random.default_rng(0)
  return {name: random.integers(0, 256, (3, size, size, 3), np.uint8)
          for name in names}


@pytest.mark.parametrize("camera", [
    "front", ("left", "right", "wrist"), ("left", "", "", "wrist")])
def test_split_is_the_inverse_of_compose(camera):
  view = views.View.of(camera)
  video = _video(view.named)
  side = 8 if len(view.cameras) == 1 else 16
  whole = view.compose(video)
  assert whole.shape == (3, side, side, 3)
  np.testing.assert_array_equal(whole, view.compose(video, (side, side)))
  again = view.split(whole)
  assert set(again) == set(view.named)
  for name, frames in video.items():
    np.testing.assert_array_equal(again[name], frames)


def test_places_are_those_of_the_paper():
  view = views.View.of(("left", "right", "wrist"))
  video = {name: np.full((1, 2, 2, 3), i + 1, np.uint8)
           for i, name in enumerate(view.named)}
  corners = view.compose(video)[0, ::2, ::2, 0]
  np.testing.assert_array_equal(corners, [[1, 2], [3, 0]])
  prompt = view.prompt("pick the cup")
  assert prompt.endswith("pick the cup")
  assert "bottom right is black" in prompt
  assert views.View.of("front").prompt("pick the cup") == "pick the cup"


@pytest.mark.parametrize("camera", ["", (), ("a", "a"), tuple("abcde")])
def test_views_that_cannot_be(camera):
  with pytest.raises(errors.ConfigError, match="one to four"):
    views.View.of(camera)


def test_odd_sides():
  with pytest.raises(errors.ConfigError, match="even sides"):
    views.View.of(("a", "b")).size(5, 4)
