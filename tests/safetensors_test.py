"""The file format: round trip, laziness, damage."""

import json

import ml_dtypes
import numpy as np
import pytest

from dreamgen_jax import errors, lazy, safetensors


def _tensors():
  rng = np.random.default_rng(0)
  return {
      "odd": np.array([True, False, True]),
      "f32": rng.standard_normal((3, 4)).astype(np.float32),
      "bf16": rng.standard_normal((2, 3)).astype(ml_dtypes.bfloat16),
      "f16": rng.standard_normal(5).astype(np.float16),
      "f64": rng.standard_normal(2),
      "i64": np.array(7),
      "i32": np.arange(4, dtype=np.int32).reshape(2, 2),
      "u8": np.arange(3, dtype=np.uint8),
      "none": np.zeros((0, 4), np.float32),
      "transposed": rng.standard_normal((2, 5)).astype(np.float32).T,
  }


def test_round_trip_keeps_bits_dtypes_and_metadata(tmp_path):
  path = tmp_path / "a.safetensors"
  safetensors.write(path, _tensors(), {"format": "np"})
  found = safetensors.read(path)
  assert found.keys() == _tensors().keys()
  for name, tensor in _tensors().items():
    assert found[name].dtype == tensor.dtype
    assert found[name].shape == tensor.shape
    assert found[name].tobytes() == tensor.tobytes()
  assert safetensors.metadata(path) == {"format": "np"}
  assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_layout_is_the_published_one(tmp_path):
  path = tmp_path / "a.safetensors"
  safetensors.write(path, {"x": np.array([1.5], np.float32)})
  data = path.read_bytes()
  length = int.from_bytes(data[:8], "little")
  assert json.loads(data[8:8 + length]) == {
      "x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
  assert data[8 + length:] == np.float32(1.5).tobytes()


def test_tensors_are_views_of_the_file(tmp_path):
  path = tmp_path / "a.safetensors"
  safetensors.write(path, {"x": np.zeros(4, np.float32)})
  x = safetensors.read(path)["x"]
  assert not x.flags.writeable and not x.flags.owndata
  with path.open("r+b") as file:
    file.seek(-4, 2)
    file.write(np.float32(9).tobytes())
  assert x[-1] == 9


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_a_cut_off_file_is_an_error(tmp_path, keep):
  path = tmp_path / "a.safetensors"
  safetensors.write(path, _tensors())
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(errors.CheckpointError, match="cut off"):
    safetensors.read(path)


@pytest.mark.parametrize("header, what", [
    (b"hello", "not JSON"),
    (b"[1, 2]", "not an object"),
    (b'{"x": {"dtype": "F32", "shape": [1]}}', "no proper"),
    (b'{"x": {"dtype": "F4", "shape": [], "data_offsets": [0, 4]}}', "F4"),
    (b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
     "4 bytes"),
])
def test_a_damaged_header_is_an_error(tmp_path, header, what):
  path = tmp_path / "a.safetensors"
  path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
  with pytest.raises(errors.CheckpointError, match=what):
    safetensors.read(path)


def test_missing_files_and_unknown_dtypes_are_errors(tmp_path):
  with pytest.raises(errors.CheckpointError, match="No such file"):
    safetensors.read(tmp_path / "a.safetensors")
  with pytest.raises(errors.CheckpointError, match="complex64"):
    safetensors.write(tmp_path / "b", {"x": np.zeros(1, np.complex64)})
  assert not list(tmp_path.iterdir())


def test_a_folder_is_its_shards(tmp_path):
  with pytest.raises(errors.CheckpointError, match="holds no"):
    safetensors.read(tmp_path)
  safetensors.write(tmp_path / "1.safetensors", {"x": np.ones(1)})
  safetensors.write(tmp_path / "2.safetensors", {"y": np.zeros(1)})
  assert set(safetensors.read(tmp_path)) == {"x", "y"}
  safetensors.write(tmp_path / "3.safetensors", {"x": np.zeros(1)})
  with pytest.raises(errors.CheckpointError, match="repeats tensor 'x'"):
    safetensors.read(tmp_path)


@pytest.mark.parametrize("chunk", [1, 40, 10_000])
def test_lazy_arrays_are_cast_piece_by_piece(tmp_path, monkeypatch, chunk):
  monkeypatch.setattr(safetensors, "_CHUNK", chunk)
  made = []

  def make(array):
    made.append(array.shape)
    return array

  arrays = _tensors() | {"turned": np.arange(60.0).reshape(3, 4, 5).T}
  safetensors.write(tmp_path / "a.safetensors", {
      name: lazy.Array(array.shape, np.dtype(np.float32),
                       lambda array=array: make(array))
      for name, array in arrays.items()})
  assert len(made) == len(arrays)
  found = safetensors.read(tmp_path / "a.safetensors")
  for name, array in arrays.items():
    np.testing.assert_array_equal(found[name], array.astype(np.float32))


@pytest.fixture
def shards(tmp_path):
  """Three files of at most 100 bytes, as `write_folder` names them."""
  tensors = {f"blocks.{i}.weight": np.full((10,), i, np.float32)
             for i in range(3)}
  tensors["blocks.10.weight"] = np.zeros(30, np.float32)
  files = safetensors.write_folder(tmp_path, "model", tensors, limit=100)
  assert [file.name for file in files] == [
      f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
  found = safetensors.read(tmp_path)
  assert {name: tensor.tobytes() for name, tensor in found.items()} == {
      name: tensor.tobytes() for name, tensor in tensors.items()}
  return files


def _index(shards):
  path = shards[0].with_name("model.safetensors.index.json")
  return path, json.loads(path.read_text())


def _fails(shards, message):
  with pytest.raises(errors.CheckpointError, match=message):
    safetensors.read(shards[0].parent)


def test_shards_and_their_index(shards):
  assert _index(shards)[1] == {
      "metadata": {"total_size": 240},
      "weight_map": {"blocks.0.weight": shards[0].name,
                     "blocks.1.weight": shards[0].name,
                     "blocks.2.weight": shards[1].name,
                     "blocks.10.weight": shards[2].name}}
  # A file that the index does not name is another model's.
  safetensors.write(shards[0].with_name("other.safetensors"), {
      "blocks.0.weight": np.ones(1)})
  assert len(safetensors.read(shards[0].parent)) == 4


def test_one_shard_needs_no_index(tmp_path):
  [file] = safetensors.write_folder(tmp_path, "model", {"x": np.ones(1)})
  assert list(tmp_path.iterdir()) == [tmp_path / "model.safetensors"] == [file]


def test_a_missing_and_a_truncated_shard(shards):
  shards[1].write_bytes(shards[1].read_bytes()[:-1])
  _fails(shards, f"{shards[1].name} is cut off")
  shards[1].unlink()
  _fails(shards, f"Cannot read .*{shards[1].name}: No such file")


def test_swapped_shards(shards):
  aside = shards[0].with_name("aside")
  shards[1].rename(aside)
  shards[2].rename(shards[1])
  aside.rename(shards[2])
  _fails(shards, f"index.json says that tensor 'blocks.10.weight' is in "
         f"{shards[2].name}, but it is in {shards[1].name}; fetch")


def test_an_index_without_an_entry_and_one_too_many(shards):
  path, index = _index(shards)
  home = index["weight_map"].pop("blocks.1.weight")
  path.write_text(json.dumps(index))
  _fails(shards, f"does not list tensor 'blocks.1.weight', .* in {home}")
  index["weight_map"] |= {"blocks.1.weight": home, "blocks.3.weight": home}
  path.write_text(json.dumps(index))
  _fails(shards, "'blocks.3.weight' is in .*, but it is in none of the shards")
  for damage in ('{"weight_map": {"a": "../b"}}', "{}", "["):
    path.write_text(damage)
    _fails(shards, "index.json is damaged: it has no weight_map")
  path.with_name("more.safetensors.index.json").touch()
  path.write_text(json.dumps(index))
  _fails(shards, "holds 2 indices")
