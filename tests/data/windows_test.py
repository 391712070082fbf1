"""Tests of clips, pairs and observations."""

import dataclasses
import pickle

import numpy as np
import pytest

from dreamgen_jax import errors, types
from dreamgen_jax.data import padding, rlds, windows


def _frame(image):
  """The index that a synthetic frame was painted with."""
  return round(float(image[..., 0].mean()) / 20)


def test_clips_of_the_same_rate(dataset):
  clips = windows.Clips(dataset, camera="front", num_frames=9)
  assert clips.table.tolist() == [
      [e, s] for e in range(5) for s in range(e + 1)]
  clip = clips[4]
  assert clip["video"].shape == (9, 16, 16, 3)
  assert clip["instruction"] == "touch object 2" and clip["id"] == "episode_2"
  assert [_frame(f) for f in clip["video"]] == list(range(1, 10))


def test_clips_of_another_rate_and_size(dataset):
  slow = windows.Clips(dataset, camera="wrist", num_frames=4, video_hz=2.0,
                       stride=3, size=(8, 12))
  assert slow.offsets.tolist() == [0, 3, 5, 8]  # at 0, 2.5, 5, 7.5 frames
  assert slow[0]["video"].shape == (4, 8, 12, 3)
  assert [_frame(f) for f in slow[-1]["video"]] == [3, 6, 8, 11]
  fast = windows.Clips(dataset, camera="wrist", num_frames=17, video_hz=10.0)
  assert fast.offsets[-1] == 8 and len(fast) == 15


def test_rejected_and_short_episodes_are_left_out(tmp_path, embodiment,
                                                  episodes):
  rejected = dataclasses.replace(
      episodes[4], origin=dataclasses.replace(episodes[4].origin, kept=False))
  data = rlds.write(tmp_path / "d", "d", [*episodes[:4], rejected], embodiment)
  clips = windows.Clips(data, camera="front", num_frames=11)
  assert set(clips.table[:, 0]) == {2, 3}
  with pytest.raises(errors.DataError, match=r"no clip of 13 frames at 5 Hz: "
                     "of 5 episodes, 4 are kept"):
    windows.Clips(data, camera="front", num_frames=13)


def test_clips_of_some_episodes_only(dataset):
  fits = windows.fits(dataset, 11, 5.0)
  assert fits.tolist() == [False, False, True, True, True]
  assert windows.fits(dataset, 6, 2.5).tolist() == fits.tolist()
  clips = windows.Clips(dataset, camera="front", num_frames=9, only=~fits)
  assert clips.table.tolist() == [[0, 0], [1, 0], [1, 1]]


def test_pairs(dataset, episodes, embodiment):
  pairs = windows.Pairs(dataset, cameras=["front", "wrist"], gap=0.8,
                        horizon=8)
  assert len(pairs) == sum(9 + i for i in range(5))
  sample = pairs[10]  # second frame of episode 1
  assert sample["images"].shape == (2, 2, 16, 16, 3)
  assert _frame(sample["images"][0, 0]) == 1
  assert _frame(sample["images"][1, 1]) == 5
  np.testing.assert_allclose(sample["images"][:, 1, ..., 2], 100, atol=6)
  np.testing.assert_array_equal(sample["action"], episodes[1].action[2:10])
  assert sample["mask"].all() and sample["embodiment"] == embodiment.id
  end = pairs[8]  # last frame of episode 0
  assert _frame(end["images"][1, 0]) == 8
  last = episodes[0].action[-1]
  np.testing.assert_array_equal(end["action"][0], last)
  np.testing.assert_array_equal(  # "turn" is relative, the rest absolute
      end["action"][1:], np.tile(last * [1, 1, 0, 1], (7, 1)))


def test_pairs_without_padding(dataset):
  pairs = windows.Pairs(dataset, cameras=["front"], gap=0.8, horizon=8,
                        padded=False)
  # 17 steps, 9 frames: the last start has 8 steps (frame 4) and frame 8.
  assert pairs.table[pairs.table[:, 0] == 0, 1].tolist() == [0, 1, 2, 3, 4]
  longer = windows.Pairs(dataset, cameras=["front"], gap=0.8, horizon=12,
                         padded=False)
  assert longer.table[longer.table[:, 0] == 0, 1].tolist() == [0, 1, 2]


def test_pairs_of_videos_without_actions(tmp_path, dreams, embodiment,
                                         make_episode):
  """A second apart by each dataset's own clock, never less."""
  for hz, data in ((5.0, dreams), (8.0, None)):
    clock = dataclasses.replace(embodiment.clock, video_hz=hz)
    data = data or rlds.write(
        tmp_path / "d", "d", [make_episode(0, 12, labelled=False, clock=clock)],
        dataclasses.replace(embodiment, clock=clock))
    pairs = windows.Pairs(
        data, cameras=["wrist"], gap=1.0, horizon=0, padded=False)
    frames = data.index["frames"]
    assert len(pairs) == sum(frames - hz) > 0
    for i, (_, start) in enumerate(pairs.table):
      sample = pairs[i]
      assert sample.keys() == {"images", "id"}
      assert sample["images"].shape == (2, 1, 16, 16, 3)
      assert [_frame(f) for f in sample["images"][:, 0]] == [start, start + hz]
  with pytest.raises(errors.DataError, match=(
      "no pair of frames 2 s apart: .* the longest has 9 frames")):
    windows.Pairs(dreams, cameras=["wrist"], gap=2.0, horizon=0, padded=False)


def test_observations(dataset, episodes):
  source = windows.Observations(
      dataset, cameras=["wrist"], horizon=4, history=2, first_action=-2)
  sample = source[3]
  assert [_frame(f) for f in sample["image/wrist"]] == [2, 3]
  np.testing.assert_array_equal(sample["state"], episodes[0].state[[4, 6]])
  np.testing.assert_array_equal(sample["action"], episodes[0].action[4:8])
  assert sample["state_mask"].tolist() == [True, True]
  assert sample["instruction"] == "touch object 0"
  first = source[0]
  assert [_frame(f) for f in first["image/wrist"]] == [0, 0]
  np.testing.assert_array_equal(first["state"], episodes[0].state[[0, 0]])
  before = episodes[0].action[[0, 0, 0, 1]].copy()
  before[:2, 2] = 0  # the relative key, before the start
  np.testing.assert_array_equal(first["action"], before)


def test_unlabelled_entries_are_masked(tmp_path, embodiment, make_episode):
  episode = make_episode(0)
  action = episode.action.copy()
  action[3, 1] = np.nan
  dream = dataclasses.replace(episode, action=action, state=None)
  data = rlds.write(tmp_path / "d", "d", [dream], embodiment)
  sample = windows.Observations(
      data, cameras=[], horizon=4, embodiment_id=31)[0]
  assert not sample["mask"][3, 1] and sample["mask"].sum() == 15
  assert sample["action"][3, 1] == 0 and np.isfinite(sample["action"]).all()
  assert not sample["state_mask"].any() and not sample["state"].any()
  assert sample["state"].shape == (1, 3) and sample["embodiment"] == 31


def test_steps_are_weighed_where_they_act(dataset, episodes):
  source = windows.Observations(
      dataset, cameras=[], horizon=4, first_action=-1,
      weigh=lambda episode: episode.action[:, 0])
  want = episodes[0].action[:, 0]
  np.testing.assert_array_equal(source[0]["weight"], want[[0, 0, 1, 2]])
  np.testing.assert_array_equal(source[8]["weight"], want[[15, 16, 16, 16]])


def test_pairs_may_show_clips_and_states(dataset, episodes):
  class Double:
    def apply(self, x):
      return 2 * x

  source = windows.Pairs(
      dataset, cameras=["front"], gap=0.8, horizon=8, frames=3,
      state_normalizer=Double())
  sample = source[6]
  assert [_frame(f) for f in sample["images"][:, 0]] == [6, 8, 8]
  np.testing.assert_array_equal(
      sample["state"], 2 * episodes[0].state[[12, 16, 16]])
  assert sample["state_mask"].tolist() == [True] * 3


def test_normalizers_are_applied(dataset, episodes):
  class Double:
    def apply(self, x):
      return 2 * x

  source = windows.Observations(
      dataset, cameras=[], horizon=2, state_normalizer=Double(),
      action_normalizer=Double())
  np.testing.assert_allclose(source[0]["action"], 2 * episodes[0].action[:2])
  np.testing.assert_allclose(source[0]["state"], 2 * episodes[0].state[:1])


def test_no_actions_no_windows(dreams):
  with pytest.raises(errors.DataError, match="no frame pair with actions"):
    windows.Pairs(dreams, cameras=["front"], gap=0.2, horizon=2)
  with pytest.raises(errors.DataError, match="less than one frame"):
    windows.Pairs(dreams, cameras=["front"], gap=0.01, horizon=2)
  with pytest.raises(errors.DataError, match="no observation with actions"):
    windows.Observations(dreams, cameras=["front"], horizon=2)
  assert len(windows.Clips(dreams, camera="front", num_frames=9)) == 3


def test_fewer_steps_than_frames(tmp_path, embodiment, make_episode):
  episode = make_episode(0)
  short = dataclasses.replace(episode, state=episode.state[:12],
                              action=episode.action[:12])
  data = rlds.write(tmp_path / "d", "d", [short], embodiment)
  pairs = windows.Pairs(data, cameras=["front"], gap=0.2, horizon=2)
  assert pairs.table[:, 1].tolist() == [0, 1, 2, 3, 4, 5]


def test_memory_decodes_once_and_equals_the_disk(dataset, monkeypatch):
  memory = windows.Memory(dataset, cameras=["front"])
  calls = []
  load = dataset.episode
  monkeypatch.setattr(
      dataset, "episode", lambda *a: (calls.append(a[0]), load(*a))[1])
  held = windows.Clips(memory, camera="front", num_frames=5)
  samples = [held[i]["video"] for i in range(len(held))]
  assert sorted(calls) == [0, 1, 2, 3, 4]
  monkeypatch.undo()
  disk = windows.Clips(dataset, camera="front", num_frames=5)
  for i, sample in enumerate(samples):
    np.testing.assert_array_equal(sample, disk[i]["video"])
  assert memory.episode(0, frames=[3]).video["front"].shape == (1, 16, 16, 3)
  with pytest.raises(errors.DataError, match="not held in memory"):
    memory.episode(0, ["wrist"])
  small = windows.Memory(dataset, ["front"], size=(4, 4))
  assert small.episode(1).video["front"].shape == (10, 4, 4, 3)
  monkeypatch.setattr(windows, "_MOST", 1)  # full after the first
  full = windows.Memory(dataset, ["front"], size=(4, 4))
  for i in (0, 1, 1):
    for frames in ([3, 1], None):
      np.testing.assert_array_equal(
          full.episode(i, ["front"], frames).video["front"],
          small.episode(i, ["front"], frames).video["front"])


def test_windows_pickle(dataset):
  for source in (
      windows.Clips(windows.Memory(dataset), camera="front", num_frames=5),
      windows.Pairs(dataset, cameras=["front"], gap=0.4, horizon=3),
  ):
    copy = pickle.loads(pickle.dumps(source))
    for name, value in source[7].items():
      np.testing.assert_array_equal(copy[7][name], value)


def test_pad_chunk_on_both_sides():
  keys = (types.Key("a", 1), types.Key("b", 1, absolute=False))
  values = np.array([[1, 10], [2, 20], [3, 30]], np.float32)
  np.testing.assert_array_equal(
      padding.pad_chunk(values, keys, -1, 5),
      [[1, 0], [1, 10], [2, 20], [3, 30], [3, 0]])


def test_robots_of_one_layout_keep_their_own_id(tmp_path, embodiment,
                                                make_episode):
  other = dataclasses.replace(make_episode(1), embodiment="tabletop_panda")
  data = rlds.write(tmp_path / "d", "d", [make_episode(0), other], embodiment)
  pairs = windows.Pairs(data, cameras=["front"], gap=0.2, horizon=2)
  assert pairs[0]["embodiment"] == 7 and pairs[-1]["embodiment"] == 0
