"""Tests of reading windows by byte ranges, and of Motion JPEG."""

import io
import shutil

import av
import numpy as np
import pytest
from array_record.python import array_record_module

from dreamgen_jax import errors
from dreamgen_jax.data import dataset as dataset_lib
from dreamgen_jax.data import example, jpegs, ranges, rlds, video


@pytest.fixture(scope="module")
def jpeg_data(tmp_path_factory, make_episode, embodiment):
  """Six episodes as JPEGs, in files of several 64 KiB blocks."""
  episodes = [make_episode(seed, 20 + seed, size=64) for seed in range(6)]
  return rlds.write(tmp_path_factory.mktemp("jpegs") / "d", "d", episodes,
                    embodiment, num_shards=2, codec="jpeg")


def _fields(episode):
  return {name: getattr(episode, name) for name in (
      "id", "instruction", "embodiment", "clock", "origin", "success", "facts")}


def test_windows_equal_whole_episodes(jpeg_data, dataset, dreams):
  for data in (jpeg_data, dataset, dreams):
    for i in range(len(data)):
      whole = data.episode(i)
      part = data.episode(i, ["wrist"], [8, 3, 4, 5, 8])
      assert list(part.video) == ["wrist"]
      np.testing.assert_array_equal(
          part.video["wrist"], whole.video["wrist"][[8, 3, 4, 5, 8]])
      assert _fields(part) == _fields(whole)
      for name in ("state", "action", "spread"):
        a, b = getattr(part, name), getattr(whole, name)
        assert (a is None) == (b is None)
        if a is not None:
          np.testing.assert_array_equal(a, b)


def test_parts_are_what_array_record_reads(tmp_path):
  rng = np.random.default_rng(0)
  records = [rng.bytes(int(size)) for size in (
      0, 1, 200, 65_400, 65_472, 200_000, 5, 131_072)]
  for options, found in (("group_size:1,uncompressed", True),
                         ("group_size:3,uncompressed", True),
                         ("group_size:1", False)):
    path = tmp_path / "file"
    writer = array_record_module.ArrayRecordWriter(str(path), options)
    for record in records:
      writer.write(record)
    writer.close()
    file = ranges.RecordFile(path, len(records))
    assert (file.spans is not None) is found is bool(file.part(0))
    for i, record in enumerate(records if found else ()):
      part = file.part(i)
      assert part.read() == record
      for begin, size in rng.integers(0, len(record) + 2, (20, 2)).tolist():
        assert part.read(begin, size) == record[begin:begin + size]
  path.write_bytes(b"")
  with pytest.raises(errors.DataError, match="ends after 0 of 8 records"):
    ranges.RecordFile(path, 8)


def test_a_window_reads_little(jpeg_data, monkeypatch):
  read = []
  fetch = ranges.RecordFile.fetch
  monkeypatch.setattr(ranges.RecordFile, "fetch", lambda self, begin, size: (
      read.append(size) or fetch(self, begin, size)))
  part = jpeg_data._part(5)
  jpeg_data.episode(5, ["front"], [3])
  assert sum(read) < part.size / 2


def test_truncated_files_are_named(jpeg_data, tmp_path):
  path = tmp_path / "d"
  shutil.copytree(jpeg_data.path, path)
  data = dataset_lib.Dataset(path)
  file = next(path.glob("*-00001-of-00002"))
  file.write_bytes(file.read_bytes()[:60_000])
  data.episode(0, ["front"], [0])
  with pytest.raises(errors.DataError, match="ends"):
    data.episode(5, ["front"], [0])


def test_motion_jpeg_is_a_video_like_others(make_episode):
  frames = make_episode(1, 9, size=48).video["front"]
  data = video.encode(frames, 5.0, "jpeg")
  assert data == video.encode(frames, 5.0, "jpeg")
  assert video.probe(data) == (9, 5.0, 48, 48)
  assert np.abs(video.decode(data).astype(int) - frames).max() <= 3
  with av.open(io.BytesIO(data)) as container:
    assert len(list(container.decode(video=0))) == 9
  assert jpegs.film(ranges.Part.of(video.encode(frames, 5.0))) is None
  with pytest.raises(errors.DataError, match=r"Frames 3\.\.9 wanted .* of 9"):
    video.decode(data, [3, 9])
  with pytest.raises(errors.DataError, match="did you mean|have: h264, jpeg"):
    video.encode(frames, 5.0, "jpg")
  broken = bytearray(data)
  border = jpegs.film(ranges.Part.of(data)).borders[4]
  broken[border:border + 3] = b"abc"
  with pytest.raises(errors.DataError, match="Damaged video: frame 4"):
    video.decode(bytes(broken))


def test_negative_and_long_numbers():
  assert ranges.varints(b"\x05\xac\x02" + b"\xff" * 9 + b"\x01").tolist() == [
      5, 300, -1]
  with pytest.raises(errors.DataError, match="not a tf.Example"):
    example.features(ranges.Part.of(b"junk" * 99))
