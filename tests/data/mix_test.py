"""Tests of mixing."""

import types

import pytest

from dreamgen_jax import errors
from dreamgen_jax.data import mix


class Numbers:
  """Samples that name themselves."""

  def __init__(self, name, length):
    self.name, self.length = name, length

  def __len__(self):
    return self.length

  def __getitem__(self, i):
    return {"value": i, "source": self.name}


def test_weights():
  found = mix.mix([(Numbers("a", 5), 3.0), (Numbers("b", 5), 1.0)], 8, 0)
  for start in range(0, 40, 8):
    window = [found[start + i]["source"] for i in range(8)]
    assert window.count("a") == 6 and window.count("b") == 2


def test_random_access_equals_a_walk():
  found = mix.mix([(Numbers("a", 5), 1.0), (Numbers("b", 3), 1.0)], 4, 0)
  walk = [found[i] for i in range(12)]
  assert [found[i] for i in (11, 2, 7)] == [walk[i] for i in (11, 2, 7)]
  assert {s["value"] for s in walk if s["source"] == "b"} == {0, 1, 2}


def test_inputs_have_their_weights_and_embodiments_their_shares():
  inputs = {name: types.SimpleNamespace(
      weight=weight, embodiment=types.SimpleNamespace(name=robot))
            for name, weight, robot in (
                ("a", 3.0, "x"), ("b", 2.0, "x"), ("c", 9.0, "y"))}
  assert mix.weights(inputs, None, None) == {"a": 3.0, "b": 2.0, "c": 9.0}
  given = mix.weights(inputs, {"b": 1}, {"x": 1, "y": 1})
  assert given == {"a": 0.75, "b": 0.25, "c": 1.0}
  found = mix.mix([(Numbers(name, 5), weight)
                   for name, weight in given.items()], 8, 0)
  names = [found[i]["source"] for i in range(8)]
  assert [names.count(name) for name in "abc"] == [3, 1, 4]
  with pytest.raises(errors.ConfigError, match=r"\['x', 'y'\]; .* \['x'\]"):
    mix.weights(inputs, None, {"x": 1.0})
  with pytest.raises(errors.ConfigError, match="names 'd', which is no input"):
    mix.weights(inputs, {"d": 1.0}, None)


@pytest.mark.parametrize("sources, words", [
    ([], "no source"),
    ([(Numbers("a", 0), 1.0)], "Source 0 .* is empty"),
    ([(Numbers("a", 2), 1.0), (Numbers("b", 2), 0.0)], "weight 0.0"),
    ([(Numbers("a", 2), float("nan"))], "must be positive"),
])
def test_bad_sources(sources, words):
  with pytest.raises(errors.DataError, match=words):
    mix.mix(sources, 2, 0)
