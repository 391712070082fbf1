"""Tests of statistics and normalisers."""

import dataclasses
import json

import numpy as np
import pytest

from dreamgen_jax import errors, types
from dreamgen_jax.data import normalize, rlds

MODES = ("min_max", "q99", "mean_std")


def _statistics(values):
  accumulator = normalize.Accumulator(values.shape[1])
  accumulator.add(values)
  return accumulator.result()


@pytest.mark.parametrize("mode", MODES)
def test_equals_the_released_normalisers(golden, mode):
  _, files = golden("normalizers")
  arrays = files["normalizers"]
  statistics = normalize.Statistics(**{
      name: arrays[f"in/stat_{name}"].astype(np.float64)
      for name in ("mean", "std", "min", "max", "q01", "q99")}, count=1)
  key = types.Key("x", 4, normalize=mode)
  with pytest.raises(errors.DataError, match=r"x\[3\] = 0\.5"):
    normalize.Normalizer.create([key], statistics)
  made = normalize.Normalizer.create([key], statistics, allow_constant=True)
  found = made.apply(arrays["in/x"])
  np.testing.assert_allclose(found, arrays[f"out/{mode}"], atol=2e-6)
  np.testing.assert_allclose(made.undo(found), arrays[f"out/{mode}_inverse"],
                             atol=2e-6)


@pytest.mark.parametrize(("case", "mode"), [
    ("dp_limits", "min_max"), ("dp_gaussian", "mean_std")])
def test_equals_diffusion_policys(golden, case, mode):
  _, files = golden("normalizers")
  arrays = files["normalizers"]
  data = arrays["in/dp_data"].astype(np.float64)
  statistics = dataclasses.replace(
      _statistics(data), std=data.std(axis=0, ddof=1))
  made = normalize.Normalizer.create(
      [types.Key("x", 4, normalize=mode)], statistics, allow_constant=True,
      zero_range="diffusion_policy")
  found = made.apply(data)
  np.testing.assert_allclose(found, arrays[f"out/{case}"], atol=2e-5)
  np.testing.assert_allclose(made.undo(found), data, atol=1e-5)


def test_zero_ranges():
  statistics = _statistics(np.full((9, 1), 0.5))

  def constant(rule, mode, x=0.5):
    made = normalize.Normalizer.create(
        [types.Key("x", 1, normalize=mode)], statistics, allow_constant=True,
        zero_range=rule)
    assert normalize.Normalizer.from_json(made.to_json()).zero_range == rule
    return made.apply(np.array([[x]]))[0, 0]

  assert [constant(rule, "min_max") for rule in normalize.ZERO_RANGES] == [
      0, 0, -1, -1]
  assert constant("openpi", "q99", 0.5 + 1e-6) == pytest.approx(1, abs=1e-3)
  assert constant("openpi", "mean_std", 0.5 + 1e-6) == pytest.approx(
      1, abs=1e-3)
  assert constant("lerobot", "mean_std") == 0
  with pytest.raises(errors.ConfigError, match="have: groot, diffusion"):
    constant("mine", "q99")


@pytest.mark.parametrize("mode", (*MODES, "identity"))
def test_undo_inverts(mode):
  rng = np.random.default_rng(0)
  values = rng.normal(3, 5, (200, 3)) * [1, 10, 0.01]
  made = normalize.Normalizer.create(
      [types.Key("a", 2, normalize=mode), types.Key("b", 1, normalize=mode)],
      _statistics(values))
  inside = np.clip(values, made.statistics.q01, made.statistics.q99)
  inside = inside.reshape(10, 20, 3)
  np.testing.assert_allclose(made.undo(made.apply(inside)), inside, rtol=2e-5,
                             atol=2e-5)


def test_angles_and_binary_values_ignore_statistics():
  keys = (types.Key("yaw", 1, unit="rad", kind="angle"),
          types.Key("roll", 1, unit="deg", kind="angle"),
          types.Key("grip", 1, kind="binary"),
          types.Key("flag", 1, kind="binary", normalize="identity"))
  values = np.array([[np.pi / 2, -90, 1, 1], [-np.pi, 45, 0, 0]])
  made = normalize.Normalizer.create(keys, _statistics(values * 0))
  np.testing.assert_allclose(made.apply(values),
                             [[0.5, -0.5, 1, 1], [-1, 0.25, -1, -1]], atol=1e-6)
  np.testing.assert_allclose(made.undo(made.apply(values)), values, rtol=1e-6)
  raw = types.Key("turn", 4, unit="rad", kind="angle", normalize="identity")
  same = normalize.Normalizer.create([raw], _statistics(values * 0))
  np.testing.assert_allclose(same.apply(values), values, rtol=1e-6)
  assert made.undo([[0, 0, 0.2, -0.2]])[0, 2:].tolist() == [1, 0]
  released = normalize.Normalizer.create(
      keys, _statistics(values * 0), binary_low=0.0)
  assert released.apply(values)[:, 2:].tolist() == [[1, 1], [0, 0]]
  assert released.undo([[0, 0, 0.6, 0.4]])[0, 2:].tolist() == [1, 0]
  with pytest.raises(errors.DataError, match="rad or deg"):
    normalize.Normalizer(
        (types.Key("yaw", 4, kind="angle"),), made.statistics).apply(values)


def test_streaming_equals_one_pass():
  rng = np.random.default_rng(1)
  values = rng.normal(1e3, 1, (5000, 3))
  accumulator = normalize.Accumulator(3)
  for part in np.split(values, [1, 7, 400, 4000]):
    accumulator.add(part)
  accumulator.add(np.array([[np.nan, 0, 0]]))  # an unlabelled row
  found = accumulator.result()
  assert found.count == 5000
  for name, expected in [
      ("mean", values.mean(0)), ("std", values.std(0)),
      ("min", values.min(0)), ("max", values.max(0)),
      ("q01", np.quantile(values, 0.01, axis=0)),
      ("q99", np.quantile(values, 0.99, axis=0))]:
    np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-9,
                               err_msg=name)


def test_quantiles_of_long_streams_thin_out_evenly(monkeypatch):
  monkeypatch.setattr(normalize, "_MAX_ROWS", 1000)
  accumulator = normalize.Accumulator(1)
  values = np.random.default_rng(2).permutation(20_000)[:, None] / 20_000
  for part in np.array_split(values, 33):
    accumulator.add(part)
  assert accumulator._held <= 1000
  kept = np.concatenate(accumulator._rows)
  np.testing.assert_array_equal(kept, values[::accumulator._stride])
  assert abs(accumulator.result().q99[0] - 0.99) < 0.02


def test_constants_have_exactly_no_deviation():
  statistics = _statistics(np.full((1000, 1), 0.1))
  assert statistics.std[0] == 0


def test_dataset_statistics_are_cached(dataset, episodes, monkeypatch):
  found = normalize.compute(dataset)
  rows = np.concatenate([e.action for e in episodes])
  np.testing.assert_allclose(found["action"].mean, rows.mean(0), rtol=1e-5)
  assert found["state"].count == len(rows)
  monkeypatch.setattr(type(dataset), "episode", None)  # the file suffices
  again = normalize.compute(dataset)
  np.testing.assert_array_equal(again["state"].q99, found["state"].q99)
  file = next(dataset.path.glob("dreamgen_statistics_*"))
  assert dataset.digest[:16] in file.name
  text = file.read_text()
  file.write_text('{"state": {}}')
  with pytest.raises(errors.DataError, match="are damaged"):
    normalize.compute(dataset)
  file.write_text(text)


def test_rejected_episodes_do_not_count(tmp_path, embodiment, episodes,
                                        dreams):
  rejected = dataclasses.replace(
      episodes[0], origin=dataclasses.replace(episodes[0].origin, kept=False))
  data = rlds.write(tmp_path / "d", "d", [rejected, episodes[1]], embodiment)
  assert normalize.compute(data)["action"].count == len(episodes[1].action)
  with pytest.raises(errors.DataError, match="neither states nor actions"):
    normalize.compute(dreams)


def test_json(dataset, embodiment, episodes):
  made = normalize.Normalizer.create(
      embodiment.action, normalize.compute(dataset)["action"])
  again = normalize.Normalizer.from_json(json.loads(json.dumps(made.to_json())))
  np.testing.assert_array_equal(again.apply(episodes[0].action),
                                made.apply(episodes[0].action))
  broken = made.to_json()["statistics"]
  del broken["q01"]
  with pytest.raises(errors.DataError, match="lack q01"):
    normalize.Statistics.from_json(broken)


def test_widths_and_modes_are_checked():
  statistics = _statistics(np.random.default_rng(0).normal(size=(9, 2)))
  with pytest.raises(errors.DataError, match="width 2 .* total width 3"):
    normalize.Normalizer.create([types.Key("x", 3)], statistics)
  with pytest.raises(errors.DataError, match="unknown normalisation 'scale'"):
    normalize.Normalizer.create([types.Key("x", 2, normalize="scale")],
                                statistics)
  made = normalize.Normalizer.create([types.Key("x", 2)], statistics)
  with pytest.raises(errors.DataError, match="width 5"):
    made.apply(np.zeros((3, 5)))


def test_released_rules_by_hand():
  statistics = normalize.Statistics(
      mean=np.array([1.0, 2.0]), std=np.array([2.0, 0.0]),
      min=np.array([-3.0, 2.0]), max=np.array([5.0, 2.0]),
      q01=np.array([-1.0, 2.0]), q99=np.array([3.0, 2.0]), count=9)
  for mode, expected, back in [
      ("min_max", [2.0, 0], [9, 2]), ("q99", [1, 7], [3, 7]),
      ("mean_std", [4, 7], [9, 7]), ("identity", [9, 7], [9, 7])]:
    made = normalize.Normalizer.create(
        [types.Key("x", 2, normalize=mode)], statistics, allow_constant=True)
    found = made.apply([9.0, 7.0])
    np.testing.assert_allclose(found, expected, err_msg=mode)
    np.testing.assert_allclose(made.undo(found), back, err_msg=mode)
