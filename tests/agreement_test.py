"""Metrics of labels against recorded actions, by hand."""

import numpy as np
import pytest

from dreamgen_jax import agreement, types
from dreamgen_jax.report import content, overlay, validation

KEYS = (
    types.Key("at", 2, unit="m"),
    types.Key("yaw", 1, unit="rad", kind="angle"),
    types.Key("step", 1, absolute=False),
    types.Key("grip", 1, kind="binary"),
)
TRUTH = np.array([[0, 7, 3.1, 1, 0], [1, 7, 3.1, 1, 0], [2, 7, 3.1, 1, 1],
                  [3, 7, 3.1, 1, 0]], np.float32)
FOUND = TRUTH + np.array([[1, 0, 0.1, 0.5, 0], [-1, 0, 0.1, 0.5, 1],
                          [1, 0, 0.1, 0.5, 0], [-1, 0, 0.1, 0.5, 0]],
                         np.float32)
FOUND[:, 2] -= 2 * np.pi  # the same direction


def test_agreement_by_kind_of_key():
  found = agreement.agreement(TRUTH, FOUND, KEYS)
  assert found["mae"] == pytest.approx(
      {"at[0]": 1, "at[1]": 0, "yaw": 0.1, "step": 0.5}, abs=1e-6)
  assert found["r2"] == pytest.approx({"at[0]": 1 - 4 / 5})  # the rest rests
  assert found["r2_key"] == pytest.approx({"at": 1 - 4 / 5})
  assert found["accuracy"] == {"grip": 0.75}
  assert found["f1"] == {"grip": pytest.approx(2 / 3)}  # one hit, one too many
  missing = np.concatenate([FOUND, np.full((1, 5), np.nan)])
  again = agreement.agreement(TRUTH[[0, 1, 2, 3, 3]], missing, KEYS)
  assert again == found


def test_what_moves_most_once():
  t = np.linspace(0, 1, 9)
  moves = np.stack([t, t * 0, 3 * t, -2 * t, np.sin(9 * t)], axis=1)
  assert agreement.liveliest(moves, 2) == [2, 4]
  assert agreement.liveliest(moves, 9) == [1, 2, 4]


def test_relative_errors_add_up():
  drift = agreement.drift(TRUTH, FOUND, KEYS)
  np.testing.assert_allclose(drift[:, 3], [0.5, 1, 1.5, 2])
  np.testing.assert_allclose(drift[:, 0], [1, -1, 1, -1])


def test_coverage_of_honest_and_of_vain_spreads():
  rng = np.random.default_rng(0)
  key = [types.Key("x", 1)]
  spread = rng.uniform(0.5, 2, (4000, 1))
  truth = np.zeros((4000, 1))
  found = spread * rng.normal(size=(4000, 1))
  honest = agreement.coverage(truth, found, spread, key)["x"]
  np.testing.assert_allclose(honest, [0.683, 0.954], atol=0.02)
  vain = agreement.coverage(truth, found, spread / 4, key)["x"]
  assert vain[0] < 0.25
  factors = agreement.calibration(truth, found, spread / 4, key)
  assert factors == [pytest.approx(4, rel=0.05)]
  assert agreement.calibration(truth, found, spread * 0, key) == [1]
  assert 0.2 < agreement.warning(truth, found, spread, key)["x"] < 0.7
  assert agreement.warning(truth, found, spread * 0 + 1, key)["x"] == 0


def test_rotations_the_short_way_round():
  key = [types.Key("turn", 3, unit="rad", kind="rotation")]
  off = agreement.difference(
      np.array([[0, 0, 3.1]]), np.array([[0, 0, -3.1]]), key)
  np.testing.assert_allclose(off, [[0, 0, 2 * np.pi - 6.2]], atol=1e-6)


def test_table_page_and_overlay():
  frames = np.zeros((4, 6, 8, 3), np.uint8)

  def episode(action, **fields):
    return types.Episode(
        "e", {"front": frames}, "", "stick", types.Clock(5.0, 5.0),
        types.Origin("robot"), action=action, **fields)

  pairs = [(episode(TRUTH), episode(FOUND, spread=np.ones_like(FOUND)))]
  rows = agreement.table("all", pairs, KEYS)
  assert [row["key"] for row in rows] == agreement.names(KEYS)
  assert set(rows[0]) | set(rows[-1]) == set(agreement.COLUMNS)
  assert rows[0]["within_1"] == 1 and rows[3]["drift"] == pytest.approx(
      np.sqrt(7.5 / 4))
  page = validation.build(
      "Labels & truth", ["A note."], agreement.COLUMNS, rows, [0.0, 1.0, 2.0],
      agreement.coverage(*agreement.stack(pairs), KEYS, [0.0, 1.0, 2.0]),
      content.Labelled("Episode e", 5.0, [content.Trace(
          "at[0]", TRUTH[:, 0].tolist(), FOUND[:, 0].tolist())]))
  for said in ("Labels &amp; truth", "A note.", "at[0]", "normal errors"):
    assert said in page
  drawn = overlay.draw(frames, TRUTH, FOUND, agreement.names(KEYS), [0, 2],
                       1.0)
  assert drawn.shape == (4, 360 + 2 * overlay.ROW, overlay.WIDTH, 3)
  for colour in (overlay.TRUE, overlay.FOUND):
    assert (drawn[0] == colour).all(-1).any()
  assert (drawn[0] != drawn[3]).any()  # the line has moved on
