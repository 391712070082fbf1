"""What the benchmark of labelling counts."""

import pytest

from dreamgen_jax.benchmarks import labels


def test_how_often_each_part_runs():
  """A gap of 16 frames in 93: first frames 0, 8, ..., 88, and the last."""
  parts = {"see": 1.0, "context": 100.0, "step": 10_000.0}
  assert 93 * labels.per_frame(parts, 93, None) == pytest.approx(
      93 * 2 * 1 + 93 * 16 * 10_100)
  assert 93 * labels.per_frame(parts, 93, 1) == pytest.approx(
      93 * 1 + 93 * 100 + 93 * 16 * 10_000)
  assert 93 * labels.per_frame(parts, 93, 8) == pytest.approx(
      13 * 1 + 12 * 100 + 12 * 16 * 10_000)
