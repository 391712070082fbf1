"""The file format: round trip, laziness, damage."""

import json

import ml_dtypes
import numpy as np
import pytest

from dreamgen_jax import errors, safetensors


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
