"""Tests of episodes on disk: spec, writing with resumption, reading."""

import concurrent.futures
import dataclasses
import json
import pickle
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow_datasets as tfds

from dreamgen_jax import errors, types
from dreamgen_jax.data import rlds, shards


def _equal(a: types.Episode, b: types.Episode) -> None:
  for field in dataclasses.fields(types.Episode):
    x, y = getattr(a, field.name), getattr(b, field.name)
    if field.name == "video":
      assert list(x) == list(y)
      for camera in x:
        assert x[camera].shape == y[camera].shape
        error = np.abs(x[camera].astype(int) - y[camera].astype(int))
        assert error.max() <= 6
    elif isinstance(x, np.ndarray) or isinstance(y, np.ndarray):
      np.testing.assert_array_equal(x, y, field.name)
      assert y.dtype == np.float32
    else:
      assert x == y, field.name


def test_what_is_written_comes_back(dataset, episodes):
  assert len(dataset) == 5 and dataset.ids == [e.id for e in episodes]
  for i, episode in enumerate(episodes):
    _equal(episode, dataset.episode(i))


def test_dreams_have_no_state_and_no_action(dreams):
  episode = dreams.episode(0)
  assert episode.state is None and episode.action is None
  assert episode.success is None and episode.origin.kind == "dream"
  assert dreams.lengths.tolist() == [[9, 17]] * 3
  assert not dreams.record(0)["steps"]["action_mask"].any()


def test_labels_keep_spread_and_gaps(tmp_path, embodiment, make_episode):
  episode = make_episode(3)
  action = episode.action.copy()
  action[2:4, 1] = np.nan
  labelled = dataclasses.replace(
      episode, action=action, spread=np.abs(action * 0 + 0.1), success=None)
  labelled.spread[2:4, 1] = 0
  found = rlds.write(tmp_path / "d", "d", [labelled], embodiment).episode(0)
  _equal(labelled, found)
  assert np.isnan(found.action[2:4, 1]).all()


def test_reader_knows_the_dataset_without_decoding(dataset, embodiment):
  assert dataset.lengths.tolist() == [[9 + i, 17 + 2 * i] for i in range(5)]
  assert dataset.embodiment == embodiment
  assert dataset.clock == embodiment.clock
  assert dataset.cameras == ["front", "wrist"]
  assert dataset.index["kept"].all() and (dataset.index["success"] == 1).all()
  assert dataset.position("episode_3") == 3
  with pytest.raises(errors.DataError, match="Did you mean"):
    dataset.position("episode_9")


def test_only_wanted_cameras_and_frames(dataset):
  whole = dataset.episode(2)
  part = dataset.episode(2, cameras=["wrist"], frames=[7, 0])
  assert list(part.video) == ["wrist"]
  np.testing.assert_array_equal(part.video["wrist"],
                                whole.video["wrist"][[7, 0]])
  assert dataset.episode(2, cameras=()).video == {}
  with pytest.raises(errors.DataError, match="no camera 'top'"):
    dataset.episode(2, cameras=["top"])


def test_stock_tfds_opens_it_and_tensorflow_stays_out(dataset):
  code = f"""
import sys
import tensorflow_datasets as tfds
from dreamgen_jax.data import rlds
source = tfds.builder_from_directory({str(dataset.path)!r}).as_data_source()
example = source["train"][1]
assert len(example["steps"]) == 19
step = example["steps"][18]
assert step["is_last"] and step["reward"] == 1 and step["action"].shape == (4,)
assert example["episode_metadata"]["episode_id"] == b"episode_1"
assert rlds.from_record(rlds.Dataset({str(dataset.path)!r}).record(0))
assert "tensorflow" not in sys.modules
"""
  subprocess.run([sys.executable, "-c", code], check=True)


def test_records_equal_those_of_the_stock_encoder(dataset, embodiment,
                                                  episodes):
  spec = rlds.features(embodiment, ["front", "wrist"])
  record = rlds.to_record(episodes[0], embodiment)
  data = spec.serialize_example(spec.encode_example(record))
  found = spec.deserialize_example_np(
      data, decoders={"steps": tfds.decode.SkipDecoding()})
  _equal(dataset.episode(0), rlds.from_record(found))


def test_a_killed_run_goes_on(tmp_path, embodiment, episodes):
  ready, calls = {e.id: e for e in episodes}, []

  def make(id_):
    calls.append(id_)
    if id_ == "episode_3" and len(calls) == 4:
      raise KeyboardInterrupt
    return ready[id_]

  def run():
    return rlds.write(tmp_path / "d", "d", list(ready), embodiment,
                      num_shards=5, digest="x", make=make)

  with pytest.raises(KeyboardInterrupt):
    run()
  assert not list((tmp_path / "d").glob("incomplete*"))
  with pytest.raises(errors.DataError, match="not a finished dataset"):
    rlds.Dataset(tmp_path / "d")
  found = run()
  assert calls == [f"episode_{i}" for i in (0, 1, 2, 3, 3, 4)]
  assert run().digest == found.digest and len(calls) == 6
  _equal(found.episode(3), episodes[3])


def test_content_is_independent_of_time_and_place(tmp_path, embodiment,
                                                  episodes):
  digests = {
      rlds.write(tmp_path / str(i), "d", episodes, embodiment).digest
      for i in range(2)
  }
  assert len(digests) == 1
  changed = [dataclasses.replace(episodes[0], instruction="else"),
             *episodes[1:]]
  other = rlds.write(tmp_path / "2", "d", changed, embodiment)
  assert other.digest not in digests


def test_other_inputs_do_not_slip_in(tmp_path, embodiment, episodes):
  path = tmp_path / "d"
  rlds.write(path, "d", episodes, embodiment, num_shards=3)
  with pytest.raises(errors.DataError, match="already holds"):
    rlds.write(path, "d", episodes[:2], embodiment)
  found = rlds.write(path, "d", episodes[:2], embodiment, overwrite=True)
  assert found.ids == ["episode_0", "episode_1"]
  assert len(list(path.glob("d-train*"))) == 1  # old shards are gone


def test_several_hosts(tmp_path, embodiment, episodes):
  barrier = threading.Barrier(2)
  ready = {e.id: e for e in episodes}

  def host(i):
    return rlds.write(tmp_path / "d", "d", list(ready), embodiment,
                      num_shards=4, make=ready.get, host=i, hosts=2,
                      barrier=lambda: barrier.wait(20))

  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    found = list(pool.map(host, range(2)))
  assert found[0].digest == found[1].digest
  assert found[0].ids == list(ready)
  with pytest.raises(errors.DataError, match="barrier"):
    rlds.write(tmp_path / "e", "d", episodes, embodiment, hosts=2)


def test_make_may_leave_episodes_out_or_work_in_batches(tmp_path, embodiment,
                                                        episodes):
  ready, sizes = {e.id: e for e in episodes}, []

  def many(ids):
    sizes.append(len(ids))
    return [ready[id_] for id_ in ids if id_ != "episode_1"]

  found = rlds.write(tmp_path / "d", "d", list(ready), embodiment,
                     num_shards=2, make_many=many,
                     metadata={"config": {"a": 1}})
  assert sizes == [5] and len(found) == 4
  assert "episode_1" not in found.ids
  assert found.metadata["config"] == {"a": 1}
  one = rlds.write(tmp_path / "e", "d", list(ready), embodiment, num_shards=5,
                   make=lambda id_: ready[id_] if id_ == "episode_4" else None)
  assert one.ids == ["episode_4"]


@pytest.mark.parametrize("bad, words", [
    ({"state": np.zeros((17, 2))}, r"state .* needs \[17, 3\]"),
    ({"action": np.zeros((16, 4))}, "differ in length"),
    ({"state": np.full((17, 3), np.nan)}, "not finite"),
    ({"video": {"front": np.zeros((2, 8, 8, 3), np.uint8)}},
     "no camera 'wrist'"),
    ({"video": {c: np.zeros((n, 8, 8, 3), np.uint8)
                for n, c in enumerate(("front", "wrist"), 1)}},
     "cameras .* differ in length"),
])
def test_episodes_that_do_not_fit(tmp_path, embodiment, make_episode, bad,
                                  words):
  episode = dataclasses.replace(make_episode(0), **bad)
  with pytest.raises(errors.DataError, match=words):
    rlds.write(tmp_path / "d", "d", [episode], embodiment)


def test_writing_nonsense(tmp_path, embodiment, episodes, make_episode):
  for items, kw, words in [
      ([], {}, "no episode"),
      (episodes, {"num_shards": 9}, "num_shards"),
      (["a"], {}, "needs `make`"),
      (["a"], {"make": lambda id_: episodes[0]}, "was asked for"),
      (["a"], {"make": lambda id_: None}, "it has no episode"),
      ([episodes[0], episodes[0]], {}, "more than once"),
      ([episodes[0], make_episode(
          9, clock=types.Clock(4.0, 10.0))], {}, "different clocks"),
  ]:
    shutil.rmtree(tmp_path / "d", ignore_errors=True)
    with pytest.raises(errors.DataError, match=words):
      rlds.write(tmp_path / "d", "d", items, embodiment, **kw)


def test_missing_and_unfinished_folders(tmp_path):
  with pytest.raises(errors.DataError, match="no dataset folder"):
    rlds.Dataset(tmp_path / "nowhere")
  with pytest.raises(errors.DataError, match=r"no dataset_info\.json"):
    rlds.Dataset(tmp_path)


def _copy(dataset, tmp_path):
  path = tmp_path / "copy"
  shutil.copytree(dataset.path, path)
  return path


@pytest.mark.parametrize("cut", [0, 1000, 70_000])
def test_truncated_record_file(dataset, tmp_path, cut):
  path = _copy(dataset, tmp_path)
  file = next(path.glob("*-00001-of-00002"))
  file.write_bytes(file.read_bytes()[:cut])
  with pytest.raises(errors.DataError, match=str(path)):
    rlds.Dataset(path).episode(4)
  file.unlink()
  with pytest.raises(errors.DataError, match="is missing"):
    rlds.Dataset(path).episode(4)


def test_damaged_descriptions(dataset, tmp_path):
  path = _copy(dataset, tmp_path)
  (path / shards.INDEX).write_bytes(b"PK nonsense")
  with pytest.raises(errors.DataError, match="index .* is damaged"):
    rlds.Dataset(path)
  (path / "dataset_info.json").write_text("{")
  with pytest.raises(errors.DataError, match="description .* is damaged"):
    rlds.Dataset(path)


def test_missing_and_wrong_features(dataset, tmp_path):
  path = _copy(dataset, tmp_path)
  text = (path / "metadata.json").read_text()
  meta = json.loads(text)
  meta["cameras"].append("top")
  (path / "metadata.json").write_text(json.dumps(meta))
  with pytest.raises(errors.DataError, match="no feature 'episode_metadata/"
                     "video/top'"):
    rlds.Dataset(path)
  meta = json.loads(text)
  meta["embodiment"]["action"][0]["dims"] = 3
  (path / "metadata.json").write_text(json.dumps(meta))
  with pytest.raises(errors.DataError, match=r"'steps/action' .* float32\[4\]"
                     r"; it must be float32\[5\]"):
    rlds.Dataset(path)
  (path / "metadata.json").unlink()
  with pytest.raises(errors.DataError, match="does not say its embodiment"):
    rlds.Dataset(path)
  features = (path / "features.json").read_text()
  (path / "metadata.json").write_text(text)
  (path / "features.json").write_text(features.replace("float32", "float64"))
  with pytest.raises(errors.DataError, match="is float64"):
    rlds.Dataset(path)


def test_unknown_split_and_episode(dataset):
  with pytest.raises(errors.DataError, match="no split 'val'"):
    rlds.Dataset(dataset.path, split="val")
  with pytest.raises(errors.DataError, match="5 episodes, no number 7"):
    dataset.episode(7)


def test_index_is_made_again(dataset, tmp_path):
  path = _copy(dataset, tmp_path)
  (path / shards.INDEX).unlink()
  found = rlds.Dataset(path)
  for name, column in dataset.index.items():
    np.testing.assert_array_equal(found.index[name], column)
  assert (path / shards.INDEX).exists()


def test_pickles_and_threads(dataset, episodes):
  copy = pickle.loads(pickle.dumps(dataset))
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    found = list(pool.map(copy.episode, [i % 5 for i in range(40)]))
  for i, episode in enumerate(found):
    assert episode.id == episodes[i % 5].id


def test_unfinished_shards_of_other_inputs_are_made_again(tmp_path, embodiment,
                                                          episodes):
  ready, calls = {e.id: e for e in episodes}, []

  def make(id_):
    calls.append(id_)
    if len(calls) == 3:
      raise KeyboardInterrupt
    return ready[id_]

  path = tmp_path / "d"
  with pytest.raises(KeyboardInterrupt):
    rlds.write(path, "d", list(ready), embodiment, num_shards=5, digest="old",
               make=make)
  (path / "incomplete.123.d-train").write_bytes(b"left by a killed run")
  rlds.write(path, "d", list(ready), embodiment, num_shards=5, digest="new",
             make=make)
  assert calls[3:] == list(ready)
  assert not list(path.glob("incomplete*"))


def test_ready_episodes_are_known_by_their_content(tmp_path, embodiment,
                                                   episodes):
  rlds.write(tmp_path / "d", "d", episodes, embodiment)
  rlds.write(tmp_path / "d", "d", episodes, embodiment)  # the same: fine
  video = {c: v.copy() for c, v in episodes[0].video.items()}
  video["front"][0, 0, 0, 0] += 1
  changed = [dataclasses.replace(episodes[0], video=video), *episodes[1:]]
  with pytest.raises(errors.DataError, match="already holds"):
    rlds.write(tmp_path / "d", "d", changed, embodiment)


def test_foreign_record_file(dataset, tmp_path, embodiment, episodes):
  path = _copy(dataset, tmp_path)
  other = rlds.write(tmp_path / "o", "sticks", episodes[:2], embodiment,
                     num_shards=2)
  name = "sticks-train.array_record-00001-of-00002"
  shutil.copy(other.path / name, path / name)
  with pytest.raises(errors.DataError, match="hold 3 records; .* promises 5"):
    rlds.Dataset(path).episode(0)
