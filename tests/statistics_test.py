"""Intervals and paired tests against published values."""

import pytest

from dreamgen_jax import statistics


@pytest.mark.parametrize("successes,trials,low,high", [
    (0, 10, 0.0, 0.278),
    (5, 10, 0.237, 0.763),
    (10, 10, 0.722, 1.0),
    (50, 100, 0.404, 0.596),
    (0, 0, 0.0, 1.0),
])
def test_wilson(successes, trials, low, high):
  assert statistics.wilson(successes, trials) == pytest.approx(
      (low, high), abs=5e-4)


def test_wilson_refuses_nonsense():
  with pytest.raises(ValueError, match="3 successes of 2 trials"):
    statistics.wilson(3, 2)


def test_paired_counts_only_where_the_two_differ():
  # 1 against 9 discordant pairs: 2 * (1 + 10) / 2 ** 10.
  first = [True] * 5 + [True] + [False] * 9 + [False] * 5
  second = [True] * 5 + [False] + [True] * 9 + [False] * 5
  result = statistics.paired(first, second)
  assert (result.only_first, result.only_second) == (1, 9)
  assert result.difference == pytest.approx(0.4)
  assert result.p_value == pytest.approx(22 / 1024)
  # Agresti and Min: 8 / 22, deviation sqrt(11 / 22 - (8 / 22) ** 2) / 22.
  assert (result.low, result.high) == pytest.approx((0.1102, 0.6170), abs=1e-3)
  swapped = statistics.paired(second, first)
  assert swapped.difference == -result.difference
  assert swapped.p_value == result.p_value


def test_paired_of_equals_says_nothing():
  assert statistics.paired([True, False], [True, False]).p_value == 1.0
  assert statistics.paired([True, False], [False, True]).p_value == 1.0


def test_paired_needs_pairs():
  with pytest.raises(ValueError, match="equally long"):
    statistics.paired([True], [])
