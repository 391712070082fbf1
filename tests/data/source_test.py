"""Tests of datasets that others recorded: layouts, reading, what is wrong."""

import dataclasses
import io
import pickle
import zlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from dreamgen_jax import errors, types
from dreamgen_jax.data import layout, source, windows
from tests import recorded

ROBOT = types.Embodiment(
    name="arm", id=5,
    state=(types.Key("position", 3, unit="m"),
           types.Key("turn", 3, unit="rad", kind="rotation",
                     rotation="axis_angle"),
           types.Key("gripper", 1, gripper="open")),
    action=(types.Key("move", 3, unit="m", absolute=False),
            types.Key("gripper_close", 1, kind="binary", gripper="closed",
                      normalize="identity")),
    cameras={"front": "front", "wrist": "wrist"},
    clock=types.Clock(10.0, 10.0))
LAYOUT = layout.Layout(
    embodiment=ROBOT,
    steps="frames",
    state={"position": layout.Column("proprio/pose[0:3]", unit="mm"),
           "turn": layout.Column("proprio/pose[3:7]",
                                 rotation="quaternion_xyzw"),
           "gripper": layout.Column("proprio/fingers", gripper="closed",
                                    scale=12.5)},
    action={"move": layout.Column("proprio/pose[0:3]", unit="mm",
                                  over_time="difference"),
            "gripper_close": layout.Column("command", gripper="open",
                                           over_time="command")},
    cameras={"front": "cams/a", "wrist": "cams/b"},
    instruction=("words", "info/words"),
    timestamp=layout.Column("time", unit="ms"), success="info/good",
    validation=0.25)

F = tfds.features
FEATURES = F.FeaturesDict({
    "frames": F.Dataset({
        "proprio": {"pose": F.Tensor(shape=(7,), dtype=np.float64),
                    "fingers": F.Scalar(dtype=np.float32)},
        "command": F.Tensor(shape=(1,), dtype=np.int32),
        "cams": {"a": F.Image(shape=(16, 16, 3), encoding_format="jpeg"),
                 "b": F.Tensor(shape=(4, 4, 3), dtype=np.uint8)},
        "words": F.Text(), "time": F.Scalar(dtype=np.int64)}),
    "info": {"words": F.Text(), "good": F.Scalar(dtype=np.bool_)}})


def make(seed, steps=6, **changes):
  """One record as the features say, with some columns replaced."""
  rng = np.random.default_rng(seed)
  pose = np.zeros((steps, 7))
  pose[:, 0] = 1000 * seed + 10 * np.arange(steps) ** 1.01
  pose[:, 1:3] = rng.normal(size=(steps, 2))
  half = np.pi / 4 - 0.1 * rng.random(steps) * (seed != 5)
  pose[:, 3:5] = 0.1 * rng.normal(size=(steps, 2)) * (seed != 5)
  pose[:, 5], pose[:, 6] = np.sin(half), np.cos(half)  # about z by and large
  steps_ = {
      "proprio": {"pose": pose, "fingers": np.linspace(
          0.02, 0.06, steps, dtype=np.float32)},
      "command": np.array([[0], [0], [-1], [0], [1], [0]], np.int32)[:steps],
      "cams": {"a": recorded.jpegs(steps, seed=seed),
               "b": np.full((steps, 4, 4, 3), seed, np.uint8)},
      "words": [f"touch {seed}".encode()] * steps,
      "time": 100 * np.arange(steps)}
  info = {"words": f"reach for {seed}".encode(), "good": True}
  for path, value in changes.items():
    where, *rest = path.split("__")
    inner = steps_ if where != "info" else {"info": info}
    for part in ([where, *rest])[:-1]:
      inner = inner[part]
    inner[([where, *rest])[-1]] = value
  return {"frames": steps_, "info": info}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Ten good episodes in two files, and a version folder around them."""
  root = tmp_path_factory.mktemp("lab")
  recorded.write(root / "1.0.0", FEATURES, [make(i) for i in range(10)])
  return root


def test_what_is_recorded_comes_in_the_embodiments_words(folder):
  found = source.Source(LAYOUT, folder, split="all")
  assert len(found) == 10 and found.problems == []
  assert found.ids[0] == "train-00000-000000" and found.position(
      "train-00001-000002") == 7
  episode = found.episode(7)  # file 1 holds the odd ones
  assert episode.clock == types.Clock(10.0, 10.0) and episode.success is True
  np.testing.assert_allclose(
      episode.state[:, 0], 5 + 0.01 * np.arange(6) ** 1.01, rtol=1e-6)
  np.testing.assert_allclose(
      episode.state[:, 3:6], [[0, 0, np.pi / 2]] * 6, atol=1e-6)
  np.testing.assert_allclose(  # a quarter closed, and on to three
      episode.state[:, 6], np.linspace(0.75, 0.25, 6), rtol=1e-5)
  np.testing.assert_allclose(episode.action[:5, 0], 0.01, rtol=0.05)
  assert np.isnan(episode.action[5, :3]).all()  # nobody knows
  # +1 opens, -1 closes, 0 keeps; it was open before it was closed.
  assert episode.action[:, 3].tolist() == [0, 0, 1, 1, 0, 0]
  assert episode.video["front"].shape == (6, 16, 16, 3)
  assert (episode.video["wrist"] == 5).all()
  part = found.episode(7, cameras=["front"], frames=[4, 1])
  assert list(part.video) == ["front"]
  np.testing.assert_array_equal(part.video["front"],
                                episode.video["front"][[4, 1]])


def test_one_of_several_instructions_is_drawn_by_content(folder):
  found = source.Source(LAYOUT, folder, split="all")
  told = [found.episode(i, cameras=()).instruction for i in range(10)]
  assert {text.split()[0] for text in told} == {"touch", "reach"}
  assert told == [found.episode(i, cameras=()).instruction for i in range(10)]


def test_splits_are_apart_and_whole(folder):
  parts = {name: set(source.Source(LAYOUT, folder, split=name).ids)
           for name in source.SPLITS}
  assert parts["train"] and parts["validation"]
  assert not parts["train"] & parts["validation"]
  assert parts["train"] | parts["validation"] == parts["all"]


def test_array_records_are_read_alike(folder, tmp_path):
  other = recorded.write(tmp_path / "a", FEATURES,
                         [make(i) for i in range(10)], format="array_record")
  a, b = (source.Source(LAYOUT, each, split="all") for each in (folder, other))
  for i in (0, 9):
    x, y = a.episode(i), b.episode(i)
    np.testing.assert_array_equal(x.state, y.state)
    np.testing.assert_array_equal(x.video["front"], y.video["front"])


def test_remote_files_are_read_record_by_record(folder, monkeypatch):
  near = source.Source(LAYOUT, folder, split="all").episode(3)
  monkeypatch.setattr(source.records, "_is_local", lambda file: False)
  far = source.Source(LAYOUT, folder, split="all").episode(3)
  np.testing.assert_array_equal(near.action, far.action)
  np.testing.assert_array_equal(near.video["wrist"], far.video["wrist"])


def test_the_index_is_kept_and_windows_read_through_it(folder, monkeypatch):
  source.Source(LAYOUT, folder)
  monkeypatch.setattr(source.scan, "scan", None)  # not again
  found = pickle.loads(pickle.dumps(source.Source(LAYOUT, folder)))
  pairs = windows.Pairs(found, cameras=["front", "wrist"], gap=0.1, horizon=2,
                        size=(16, 16))
  assert len(pairs) == 6 * len(found)
  last = pairs[5]
  assert last["images"].shape == (2, 2, 16, 16, 3)
  # The last step's move is unknown, its gripper is not; then nothing moves.
  assert last["mask"].tolist() == [[False] * 3 + [True], [True] * 4]
  assert found.statistics["action"].count == 10 * 5


BAD = {
    "nan": (dict(proprio__pose=np.full((6, 7), np.nan)), "not finite in step"),
    "length": (dict(cams__a=recorded.jpegs(4)), "'cams/a' has 4"),
    "picture": (dict(cams__a=[b"\xff\xd8\xffno"] * 6), "Camera 'front'"),
    "clock": (dict(time=40 * np.arange(6)), "25 Hz; .* at 10 Hz"),
    "instruction": (dict(words=[b""] * 6, info__words=b" "), "no instruction"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_episode_is_named_and_skipped_or_fatal(kind, tmp_path):
  changes, words = BAD[kind]
  records = [make(0), make(1), make(2, **changes), make(3)]
  path = recorded.write(tmp_path / "d", FEATURES, records)
  found = source.Source(LAYOUT, path, split="all")
  assert len(found) == 3 and found.counts() == {kind: 1}
  (problem,) = found.problems
  assert (problem.episode, problem.skipped) == ("train-00000-000001", True)
  with pytest.raises(errors.DataError, match=words):
    source.Source(LAYOUT, path, on_problem="fatal")
  if kind in ("clock", "instruction"):
    kept = source.Source(LAYOUT, path, split="all", keep=[kind])
    assert len(kept) == 4 and not kept.problems[0].skipped


@pytest.mark.parametrize("last, words", [
    (lambda data: b"", "picture 5 is empty"),
    (lambda data: data[:-20], "picture 5 ends too early"),
])
def test_no_picture_of_an_episode_is_missing(last, words, tmp_path):
  frames = recorded.jpegs(6)
  records = [make(0), make(1), make(2, cams__a=[*frames[:5], last(frames[5])])]
  path = recorded.write(tmp_path / "d", FEATURES, records)
  found = source.Source(LAYOUT, path, split="all")
  assert len(found) == 2 and words in found.problems[0].text


def test_duplicates_changed_features_and_broken_files(tmp_path):
  records = [make(0), make(1), make(0), make(3), make(4), make(5)]
  path = recorded.write(tmp_path / "d", FEATURES, records, shards=3)
  # Another builder wrote the last file: four numbers instead of seven.
  other = F.FeaturesDict({"frames": F.Dataset({
      **FEATURES["frames"].feature, "proprio": {
          "pose": F.Tensor(shape=(4,), dtype=np.float64),
          "fingers": F.Scalar(dtype=np.float32)}}), "info": FEATURES["info"]})
  changed = [make(i, proprio__pose=np.zeros((6, 4))) for i in (2, 5)]
  recorded.write(tmp_path / "e", other, changed, shards=1)
  (tmp_path / "e" / "lab-train.tfrecord-00000-of-00001").replace(
      path / "lab-train.tfrecord-00002-of-00003")
  file = path / "lab-train.tfrecord-00001-of-00003"
  file.write_bytes(file.read_bytes()[:-9])
  found = source.Source(LAYOUT, path, split="all")
  assert found.counts() == {
      "truncated": 1, "features": 2, "length": 1}
  assert found.ids == ["train-00000-000000", "train-00000-000001",
                       "train-00001-000000"]
  said = {problem.kind: str(problem) for problem in found.problems}
  assert "ends within a record" in said["truncated"]
  assert "no whole rows of float64[7]" in said["features"]
  assert "holds 1 whole records; the description promises 2" in said["length"]
  (path / "lab-train.tfrecord-00001-of-00003").unlink()
  again = source.Source(LAYOUT, path, split="all")
  assert again.counts() == {"features": 2, "missing": 1} and len(again) == 2
  twice = recorded.write(tmp_path / "f", FEATURES, [make(0), make(1), make(0)])
  found = source.Source(LAYOUT, twice, split="all")
  assert found.counts() == {"duplicate": 1} and len(found) == 2
  assert "'train-00000-000000' again" in found.problems[0].text


def test_filters_leave_out_failures_and_cut_idle_stretches(tmp_path):
  still = np.zeros((6, 7))
  still[:, 6] = 1
  still[4:, 0] = [5, 10]
  still[:, :3] += 20
  records = [make(0, info__good=False), make(
      1, proprio__pose=still, command=np.zeros((6, 1), np.int32)), make(2)]
  path = recorded.write(tmp_path / "d", FEATURES, records)
  strict = dataclasses.replace(
      LAYOUT, only_success=True, idle=layout.Idle(1e-4, seconds=0.2))
  found = source.Source(strict, path, split="all")
  assert found.counts() == {"failed": 1}
  assert sorted(found.ids) == [
      "train-00000-000001", "train-00001-000000-3"]
  cut = found.episode(found.position("train-00001-000000-3"))
  np.testing.assert_allclose(cut.action[:2, 0], [0.005, 0.005], rtol=1e-4)


@pytest.mark.parametrize("changes, words", [
    (dict(cameras={"front": "cams/c"}),
     "'cams/c', which .* does not have; it has: cams/a image\\[16, 16, 3"),
    (dict(cameras={"front": "info/words"}), "must be an image per step; 'info"),
    (dict(cameras={"front": "words"}), "JPEG, PNG .* it begins with b'touch"),
    (dict(cameras={"top": "cams/a"}), "has the cameras \\['top'\\]; 'arm' has"),
    (dict(instruction=("proprio/pose",)), "must be a text; 'proprio/pose'"),
    (dict(action={"move": "proprio/pose[0:2]", "gripper_close": "command"}),
     "action 'move' has 3 numbers; 'proprio/pose\\[0:2\\]' of .* give 2"),
    (dict(action={"move": "proprio/pose[5:9]", "gripper_close": "command"}),
     "entries that are not there: the feature has 7"),
    (dict(action={"move": "proprio/pose[0:3]"}), "where the action 'gripper_c"),
    (dict(action={"mov": "proprio/pose[0:3]"}), "no key 'mov'.* mean 'move'"),
    (dict(action={"move": layout.Column("proprio/pose[0:3]", unit="deg"),
                  "gripper_close": "command"}), "'deg' of .* cannot be conv"),
    (dict(action={"move": layout.Column("proprio/pose[0:3]", unit="inch"),
                  "gripper_close": "command"}), "unit 'inch'; have: m, cm"),
    (dict(action={"move": "proprio/pose[a]", "gripper_close": "command"}),
     "cannot be read; write a feature's path"),
    (dict(state={"position": "proprio/pose[0:3]", "gripper": "command",
                 "turn": layout.Column("proprio/pose[3:6]",
                                       rotation="quaternion_xyzw")}),
     "said to be quaternion_xyzw, of 4 numbers"),
    (dict(splits=("test",)), "has no split 'test', only train"),
])
def test_a_wrong_layout_is_one_sentence(folder, changes, words):
  with pytest.raises(errors.DataError, match=words):
    source.Source(dataclasses.replace(LAYOUT, **changes), folder)


def test_odd_features(tmp_path):
  """Steps in a Sequence, PNGs called strings, zipped arrays, matrices, texts as
  codes, one array for all steps."""
  def png(i):
    file = io.BytesIO()
    Image.fromarray(np.full((6, 5), 10 * i, np.uint8)).save(file, "PNG")
    return file.getvalue()

  features = F.FeaturesDict({"episode": F.Sequence({
      "eye": F.Image(shape=(None, None, 1)), "palm": F.Text(),
      "grey": F.Tensor(shape=(2, 2, 1), dtype=np.uint8),
      "at": F.Tensor(shape=(3,), dtype=np.float64, encoding="zlib"),
      "shut": F.Scalar(dtype=np.bool_),
      "told": F.Tensor(shape=(16,), dtype=np.int32)}),
      "pose": F.Tensor(shape=(None, 2, 2), dtype=np.float32)})
  told = np.zeros((4, 16), np.int32)
  told[:, :5] = [ord(letter) for letter in "press"]
  path = recorded.write(tmp_path / "d", features, [{"episode": {
      "eye": [png(i) for i in range(4)],
      "palm": [png(i) for i in range(4)],
      "grey": np.full((4, 2, 2, 1), k, np.uint8),
      "at": [zlib.compress((np.arange(3.0) + i + k).tobytes())
             if k < 3 else b"no code" for i in range(4)],
      "shut": np.arange(4) % 2 == 0, "told": told},
      "pose": np.arange(16, dtype=np.float32).reshape(4, 2, 2) + k,
  } for k in range(4)])
  robot = types.Embodiment(
      "odd", 0, (types.Key("at", 3),),
      (types.Key("ends", 2),
       types.Key("close", 1, kind="binary", gripper="closed")),
      dict.fromkeys(("eye", "palm", "grey"), "front"), types.Clock(5.0, 5.0))
  found = source.Source(layout.Layout(
      embodiment=robot, steps="episode", state={"at": "at"},
      action={"ends": "pose[0,3]", "close": "shut"},
      cameras={name: name for name in robot.cameras},
      instruction=("told",)), path, split="all")
  assert len(found) == 3 and "'episode/at': bytes are no float64[3]" in str(
      found.problems[0])
  episode = found.episode(2)  # the odd one of three is in the second file
  assert episode.instruction == "press"
  np.testing.assert_array_equal(episode.state[:, 0], np.arange(4) + 1)
  np.testing.assert_array_equal(
      episode.action, [[1 + 4 * i, 4 + 4 * i, (i + 1) % 2] for i in range(4)])
  assert episode.video["eye"].shape == (4, 6, 5, 3)
  assert (episode.video["eye"][3] == 30).all()
  np.testing.assert_array_equal(episode.video["palm"], episode.video["eye"])
  np.testing.assert_array_equal(
      episode.video["grey"], np.full((4, 2, 2, 3), 1))


def test_a_folder_without_features(tmp_path):
  path = recorded.write(tmp_path / "d", FEATURES, [make(i) for i in range(6)])
  seen = dataclasses.replace(LAYOUT, cameras={"front": "cams/a"})
  wanted = source.Source(seen, path, split="all")
  (path / "features.json").unlink()
  found = source.Source(seen, path, split="all")
  assert found.description.guessed and not wanted.description.guessed
  fields = found.description.fields
  assert str(fields["frames/proprio/pose"]) == "float32[7]"
  assert str(fields["frames/words"]) == "text"
  assert fields["frames/words"].in_steps and not fields["info/words"].in_steps
  for i in range(6):
    a, b = wanted.episode(i), found.episode(i)
    assert a.instruction == b.instruction and a.success == b.success
    for name in ("state", "action"):
      np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    np.testing.assert_array_equal(a.video["front"], b.video["front"])


def test_layouts_travel_as_plain_values():
  strict = dataclasses.replace(LAYOUT, idle=layout.Idle(0.1))
  for each in (LAYOUT, strict):
    assert layout.Layout.from_json(each.to_json()) == each


def test_folders_that_are_none(folder, tmp_path):
  for path, words in ((tmp_path / "x", "no dataset folder"),
                      (tmp_path, "not a finished TFDS dataset"),
                      ("gs://nowhere/x", "cannot be opened.*gcsfs")):
    with pytest.raises(errors.DataError, match=words):
      source.Source(LAYOUT, path)
  with pytest.raises(errors.ConfigError, match="mean 'validation'"):
    source.Source(LAYOUT, folder, split="validatoin")
