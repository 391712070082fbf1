"""Judges score what they say, and the filter's rule keeps what it should."""

import dataclasses

import numpy as np
import pytest

from dreamgen_jax import errors, types
from dreamgen_jax.data import doubt, normalize
from dreamgen_jax.stages import judges

STATISTICS = normalize.Accumulator(2)
STATISTICS.add(np.array([[0.0, 5.0], [2.0, 5.0]]))  # the second never moves
STATISTICS = STATISTICS.result()


def _episode(action, name="e", **fields):
  action = np.asarray(action, np.float32)
  frames = np.zeros((len(action), 8, 8, 3), np.uint8)
  frames += np.arange(0, 10 * len(action), 10, dtype=np.uint8)[
      :, None, None, None]
  return types.Episode(
      id=name, video={"front": frames}, instruction="", embodiment="stick",
      clock=types.Clock(5.0, 5.0), origin=types.Origin("dream"),
      action=action, **fields)


def _score(spec, episode, **tools):
  known = {"statistics": lambda: STATISTICS} | {
      name: lambda tool=tool: tool for name, tool in tools.items()}
  (verdict,) = judges.build(spec, known).score([episode])
  assert verdict.episode_id == episode.id
  assert 0 <= verdict.score <= 1
  return verdict


def test_doubt_is_in_units_of_what_moves():
  values = np.array([[0.5, 9.0], [2.0, 9.0]])
  np.testing.assert_allclose(
      doubt.relative(values, STATISTICS.std), [0.5, 2.0])
  np.testing.assert_allclose(
      doubt.weights(values, STATISTICS.std, 2.0), [16 / 17, 0.5])
  assert not doubt.relative(values, np.zeros(2)).any()


def test_certainty_is_of_the_worst_steps():
  spread = np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0]], np.float32)
  episode = _episode(np.zeros((3, 2)), spread=spread, disagreement=spread / 3)
  spec = dict(name="certainty", kw=dict(quantile=1.0))
  assert _score(spec, episode).score == pytest.approx(1 / 4)
  spec["kw"]["of"] = "disagreement"
  assert _score(spec, episode).score == pytest.approx(1 / 2)
  spec["kw"]["quantile"] = 0.5
  assert _score(spec, episode).score == 1
  with pytest.raises(errors.DataError, match="'e' has no disagreement"):
    _score(spec, dataclasses.replace(episode, disagreement=None))
  with pytest.raises(errors.ConfigError, match="spread or disagreement"):
    _score(dict(name="certainty", kw=dict(of="mood")), episode)


def test_limits_count_the_steps_inside():
  action = [[0.0, 5.0], [2.05, 5.0], [2.2, 5.0], [1.0, 4.0], [np.nan, 5.0]]
  assert _score(dict(name="limits"), _episode(action)).score == 0.5
  wide = dict(name="limits", kw=dict(margin=0.2))
  assert _score(wide, _episode(action)).score == 0.75


def test_forward_compares_with_a_still_picture():
  episode = _episode(np.zeros((4, 2)))
  video = episode.video["front"]

  def shown(frames, success=False):
    return _score(dict(name="forward"), episode,
                  replay=lambda _: (success, frames))

  assert shown(video).score == 1
  assert shown(np.repeat(video[:1], 4, axis=0)).score == 0
  assert shown(255 - video).score == 0
  assert 0 < shown((video * 0.8).astype(np.uint8)).score < 1
  assert "succeeds" in shown(video, True).reason
  with pytest.raises(errors.DataError, match="ends before its video"):
    shown(video[:3])
  assert _score(dict(name="success"), episode,
                replay=lambda _: (True, None)).score == 1


def test_cycle_labels_what_the_labels_do():
  episode = _episode([[0.0, 5.0], [1.0, 5.0]])

  def relabel(shown):
    assert shown.video["front"][0, 0, 0, 0] == 7
    return dataclasses.replace(shown, action=episode.action + 1)

  found = _score(
      dict(name="cycle"), episode, relabel=relabel,
      replay=lambda _: (True, np.full((2, 8, 8, 3), 7, np.uint8)))
  assert found.score == pytest.approx(1 / 2)


def test_what_a_judge_does_not_know_is_refused():
  for spec, match in (
      (dict(name="certanty"), "Unknown judge 'certanty'.*mean 'certainty'"),
      (dict(name="limits", kw=dict(margn=1)), "no option 'margn'.*'margin'"),
      (dict(name="limits", kw=dict(statistics=1)), "no option 'statistics'"),
      (dict(name="limits", keeps=1), "no option 'keeps'"),
  ):
    with pytest.raises(errors.ConfigError, match=match):
      judges.build(spec, {"statistics": lambda: STATISTICS})


def _verdicts(*scores):
  return [types.Verdict(str(i), "j", score, "so it is")
          for i, score in enumerate(scores)]


def test_keep_rates_and_thresholds():
  verdicts = {"a": _verdicts(0.1, 0.9, 0.5, 0.5, 0.8),
              "b": _verdicts(1.0, 0.2, 1.0, float("nan"), 1.0)}
  rules = {"a": dict(keep=0.5), "b": dict(at_least=0.3)}
  reasons, table = judges.decide(verdicts, rules, [True] * 4 + [False])
  assert reasons == [
      "a 0.100 is not of the best 50%: so it is",
      "b 0.200 is below 0.3: so it is", "",  # of equals the first
      "a 0.500 is not of the best 50%: so it is; "
      "b nan is below 0.3: so it is", ""]
  assert table == {"a": {"bar": 0.5, "rejected": 2},
                   "b": {"bar": 1.0, "rejected": 2}}
  reasons, _ = judges.decide(verdicts, {"a": {}, "b": {}}, [True] * 5)
  assert reasons == [""] * 5
  with pytest.raises(errors.ConfigError, match="cannot keep 70"):
    judges.decide(verdicts, {"a": dict(keep=70), "b": {}}, [True] * 5)
