"""Tests of pictures that move with the positions they show."""

import numpy as np
import pytest

from dreamgen_jax import errors, types
from dreamgen_jax.data import loader, normalize, slide

KEYS = (types.Key("gripper", 1, kind="binary", normalize="identity"),
        types.Key("eef", 3, unit="m"))
LOW, HIGH = np.array([0, 0, -1, 0.0]), np.array([1, 2, 1, 0.5])


def normalizer(keys=KEYS):
  return normalize.Normalizer.create(keys, normalize.Statistics(
      LOW, HIGH, LOW, HIGH, LOW, HIGH, 9))


class Dots:
  """A white dot, whose pixel is what states and actions say."""

  def __len__(self):
    return 5

  def __getitem__(self, i):
    image = np.zeros((2, 20, 40, 3), np.uint8)
    image[:, 8 + i, 10 + i] = 255
    place = np.array([1, (10 + i) / 40, (8 + i) / 20, 0.1])
    place = normalizer().apply(place)
    return {"image/front": image, "action": np.tile(place, (3, 1)),
            "state": np.stack([place, 0 * place]),
            "state_mask": np.array([True, False])}


def moving(share=0.1):
  # Pixels are metres: the whole width is 1 of x, the whole height 1 of y.
  return slide.Slide(share, (1, 0), (0, 1), normalizer(), normalizer())


def test_dots_stay_where_they_are_said_to_be():
  seen = set()
  for sample in (moving()(Dots()[i % 5], np.random.default_rng(i))
                 for i in range(40)):
    assert sample["image/front"].shape == (2, 20, 40, 3)
    for image in sample["image/front"]:
      (y,), (x,) = np.nonzero(image[..., 0])
    action = normalizer().undo(sample["action"])
    np.testing.assert_allclose(
        action, np.tile([1, x / 40, y / 20, 0.1], (3, 1)), atol=1e-6)
    np.testing.assert_allclose(sample["state"][0], sample["action"][0])
    assert not sample["state"][1].any()  # unknown
    seen.add((x, y))
  assert min(x for x, _ in seen) < 10 and max(x for x, _ in seen) > 14
  assert min(y for _, y in seen) < 8 and max(y for _, y in seen) > 12


def test_the_loader_moves_by_seed_and_position_alone():
  def take(seed, threads, skip=0):
    batches = loader.loader([(Dots(), 1.0)], 4, seed, vary=moving(),
                            num_threads=threads)
    batches.set_state({"global_next_index": 4 * skip})
    found = [next(batches) for _ in range(6 - skip)]
    batches.close()
    return np.concatenate([batch["action"] for batch in found])

  one = take(0, 0)
  np.testing.assert_array_equal(one, take(0, 2))
  np.testing.assert_array_equal(one[16:], take(0, 2, skip=4))
  assert (one != take(1, 0)).any()
  assert len({tuple(row) for row in one[:, 0]}) > 5  # an epoch like no other


def test_places_that_cannot_move_are_refused():
  keys = (types.Key("joints", 4, unit="rad"),)
  with pytest.raises(errors.DataError, match=r"\['joints'\] is one in metres"):
    slide.Slide(0.1, (1, 0), (0, 1), normalizer(keys), None)
