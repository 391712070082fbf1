"""Tests of mixing and loading."""

import json
import time

import numpy as np
import pytest

from dreamgen_jax import errors
from dreamgen_jax.data import loader, memory, mix, rlds, windows


class Numbers:
  """Samples that name themselves; later ones load faster."""

  def __init__(self, name, length):
    self.name, self.length = name, length

  def __len__(self):
    return self.length

  def __getitem__(self, i):
    time.sleep(0.001 * (i % 3))
    return {"value": np.float32([i, i]), "source": self.name}


def _take(iterator, count):
  return [next(iterator) for _ in range(count)]


def _equal(a, b):
  assert len(a) == len(b)
  for x, y in zip(a, b, strict=True):
    assert x.keys() == y.keys()
    for name in x:
      np.testing.assert_array_equal(x[name], y[name], name)


def _make(seed=0, **kw):
  sources = [(Numbers("real", 7), 1.0), (Numbers("neural", 50), 1.0)]
  return loader.loader(sources, 8, seed, **kw)


def test_windows_are_made_where_their_batch_lies(tmp_path, embodiment,
                                                 make_episode):
  data = rlds.write(tmp_path / "d", "d", [make_episode(i) for i in range(3)],
                    embodiment, codec="jpeg")
  clips = windows.Clips(data, camera="front", num_frames=5)
  place = np.empty((5, 16, 16, 3), np.uint8)
  with memory.lent(place):
    assert clips[3]["video"] is place
  both = windows.Observations(data, cameras=["wrist", "front"], horizon=2,
                              history=3)  # either could be made there
  for source in (clips, both):
    plain = mix.mix([(source, 1.0)], 4, 0)
    batches = loader.loader([(source, 1.0)], 4, 0)
    for i, batch in enumerate(_take(batches, 3)):
      samples = [plain[4 * i + k] for k in range(4)]
      _equal([batch], [{name: np.stack([sample[name] for sample in samples])
                        for name in samples[0]}])
    batches.close()


def test_every_batch_is_exactly_one_to_one():
  batches = _take(_make(), 20)
  for batch in batches:
    assert batch["value"].shape == (8, 2)
    assert (batch["source"] == "real").sum() == 4
  places = {tuple(batch["source"]) for batch in batches}
  assert len(places) > 5  # sources do not sit at fixed positions


def test_an_epoch_is_a_permutation_and_the_next_one_another():
  load = loader.loader([(Numbers("a", 12), 1.0)], 6, 0)
  values = np.concatenate([b["value"][:, 0] for b in _take(load, 4)])
  assert sorted(values[:12]) == sorted(values[12:]) == list(range(12))
  assert values[:12].tolist() != values[12:].tolist()


@pytest.mark.parametrize("num_threads", [0, 8])
def test_order_depends_on_the_seed_alone(num_threads):
  reference = _take(_make(), 6)
  _equal(reference, _take(_make(num_threads=num_threads), 6))
  other = _take(_make(seed=1), 6)
  assert any((a["value"] != b["value"]).any()
             for a, b in zip(reference, other, strict=True))


def test_restart_goes_on_bit_equal():
  whole = _take(_make(), 9)
  first = _make()
  _take(first, 4)
  state = json.loads(json.dumps(first.get_state()))
  first.close()
  second = _make(num_threads=5)
  second.set_state(state)
  _equal(whole[4:], _take(second, 5))


def _buckets(seed=3):
  return loader.bucketed(
      [[(Numbers("short", 40), 1.0)], [(Numbers("long", 10), 1.0)]], 4, seed)


def test_a_batch_is_of_one_bucket_as_often_as_it_has_samples():
  batches = _take(_buckets(), 40)
  names = [set(batch["source"].tolist()) for batch in batches]
  assert all(len(name) == 1 for name in names)
  assert 7 <= names.count({"long"}) <= 9
  _equal(batches[:9], _take(_buckets(), 9))
  other = [set(batch["source"].tolist()) for batch in _take(_buckets(4), 40)]
  assert names != other


def test_buckets_go_on_bit_equal():
  whole = _take(_buckets(), 12)
  first = _buckets()
  _take(first, 5)
  state = json.loads(json.dumps(first.get_state()))
  first.close()
  second = _buckets()
  second.set_state(state)
  _equal(whole[5:], _take(second, 7))


def test_a_bucket_has_its_sources_in_their_shares():
  batches = _take(loader.bucketed(
      [[(Numbers("a", 12), 0.5), (Numbers("b", 3), 1.5)]], 4, 0), 6)
  for batch in batches:
    assert sorted(batch["source"].tolist()) == ["a", "b", "b", "b"]


def test_one_bucket_is_a_plain_loader():
  sources = [(Numbers("a", 12), 1.0)]
  _equal(_take(loader.loader(sources, 4, 0), 5),
         _take(loader.bucketed([sources], 4, 0), 5))


def test_hosts_share_each_batch():
  whole = _take(_make(), 3)
  hosts = [_take(_make(host=i, hosts=2), 3) for i in range(2)]
  for batch, *parts in zip(whole, *hosts, strict=True):
    def rows(part):
      return [(s, v) for s, v in zip(part["source"], part["value"][:, 0],
                                     strict=True)]
    assert sorted(rows(batch)) == sorted(rows(parts[0]) + rows(parts[1]))
  assert {s for part in hosts[0] for s in part["source"]} == {"real", "neural"}


def test_then_is_applied_to_samples():
  load = _make(then=lambda sample: {"double": 2 * sample["value"]})
  batch = next(load)
  assert list(batch) == ["double"] and (batch["double"] % 2 == 0).all()


def test_windows_load_as_batches(dataset):
  load = loader.loader([
      (windows.Observations(dataset, cameras=["front"], horizon=4), 1.0)], 4, 0)
  batch = next(load)
  assert batch["image/front"].shape == (4, 1, 16, 16, 3)
  assert batch["action"].shape == (4, 4, 4) and batch["mask"].dtype == bool
  assert batch["embodiment"].tolist() == [7] * 4
  assert all(text.startswith("touch object") for text in batch["instruction"])


def test_bad_batch_size():
  with pytest.raises(errors.DataError, match="multiple of the 2 hosts"):
    loader.loader([(Numbers("a", 2), 1.0)], 3, 0, hosts=2)
