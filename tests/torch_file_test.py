"""Files as torch.save writes them, made here by hand; and wicked ones."""

import io
import os
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest

from dreamgen_jax import errors, torch_file
from tests import torch_archive as pt


def test_tensors_are_views_of_the_file(tmp_path):
  numbers = np.arange(12, dtype=np.float32)
  half = np.arange(4).astype(ml_dtypes.bfloat16)
  path = pt.write(tmp_path / "a.pt", pt.ordered({
      "a.weight": pt.tensor("Float", "0", (3, 2), (2, 1), 4),
      "a.turned": pt.tensor("Float", "0", (2, 3), (1, 2), 4),
      "b": pt.tensor("BFloat16", "1", (4,), (1,)),
      "count": pt.tensor("Long", "2", (), ()),
      "none": pt.tensor("Float", "0", (0, 3), (3, 1)),
  }), {"0": numbers, "1": half, "2": np.int64(7)})
  found = torch_file.read(path)
  assert list(found) == ["a.weight", "a.turned", "b", "count", "none"]
  weight = found["a.weight"]
  np.testing.assert_array_equal(weight, numbers[4:10].reshape(3, 2))
  np.testing.assert_array_equal(found["a.turned"], weight.T)
  assert found["b"].dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(found["b"], half)
  assert found["count"] == 7 and found["none"].shape == (0, 3)
  assert np.shares_memory(weight, found["a.turned"])
  assert not weight.flags.writeable

  place = path.read_bytes().index(numbers[4:10].tobytes())
  with path.open("r+b") as file:
    file.seek(place)
    file.write(np.float32(99).tobytes())
  assert weight[0, 0] == 99


def test_wrappers_parameters_and_other_values(tmp_path):
  parameter = pt.named("torch._utils", "_rebuild_parameter") + pt.sequence(
      pt.tensor("Float", "0", (2,), (1,)), b"\x88", pt.EMPTY_DICT) + pt.REDUCE
  state = pt.named("_io", "BytesIO") + pt.EMPTY_TUPLE + pt.REDUCE
  path = pt.write(tmp_path / "a.pt", pt.dictionary({
      "step": pt.number(3), "module": pt.dictionary({
          "net": pt.dictionary({"weight": parameter}),
          "net._extra_state": state,
          "dtype": pt.named("torch", "bfloat16")})}), {"0": np.float32([1, 2])})
  found = torch_file.read(path)
  assert list(found) == ["net.weight"]
  np.testing.assert_array_equal(found["net.weight"], [1, 2])


class _Wicked:
  def __init__(self, function, argument):
    self.call = function, (argument,)

  def __reduce__(self):
    return self.call


def test_a_program_in_the_pickle_is_refused_and_not_run(tmp_path):
  witness = tmp_path / "witness"
  for number, (function, argument, name) in enumerate([
      (os.system, f"touch {witness}", "posix.system"),
      (eval, f"open({str(witness)!r}, 'w')", "__builtin__.eval"),
      (open, str(witness), r"\w+.open"),
      (getattr, "x", "__builtin__.getattr"),
      (np.zeros, 3, r"numpy\S+"),
  ]):
    body = pickle.dumps({"x": _Wicked(function, argument)}, 2)[2:-1]
    path = pt.write(tmp_path / f"{number}.pt", body)
    with pytest.raises(
        errors.CheckpointError, match=f"names '{name}'.*not run"):
      torch_file.read(path)
  assert not witness.exists()
  # The same bytes do run in the ordinary unpickler, so the test can fail.
  pickle.loads(pickle.dumps(_Wicked(os.system, f"touch {witness}")))
  assert witness.exists()


def test_symbols_cannot_be_made_into_code(tmp_path):
  """BUILD may set attributes of what is on the stack; only symbols are."""
  body = pt.dictionary({
      "x": pt.named("torch", "FloatStorage") + pt.dictionary(
          {"__setstate__": pt.named("torch", "HalfStorage")}) + pt.BUILD})
  with pytest.raises(errors.CheckpointError, match="no named tensors"):
    torch_file.read(pt.write(tmp_path / "a.pt", body))
  body = pt.named("collections", "OrderedDict") + pt.sequence(
      b"N", pt.dictionary({"update": pt.number(1)})) + pt.BUILD
  with pytest.raises(errors.CheckpointError, match="damaged"):
    torch_file.read(pt.write(tmp_path / "b.pt", body))


@pytest.mark.parametrize("tensor", [
    pt.tensor("Float", "0", (5,), (1,)), pt.tensor("Float", "0", (2,), (4,)),
    pt.tensor("Float", "0", (1,), (1,), 4), pt.tensor("Float", "1", (1,), (1,)),
    pt.tensor("Float", "0", (2,), (-1,), 2),
    pt.tensor("Float", "0", (2, 1), (1,)), pt.tensor("Float", "0", (-1,), (1,)),
    pt.tensor("Quantised", "0", (1,), (1,)),
    pt.named("torch._utils", "_rebuild_tensor_v2") + pt.EMPTY_TUPLE + pt.REDUCE,
])
def test_tensors_outside_their_storage_are_refused(tmp_path, tensor):
  path = pt.write(tmp_path / "a.pt", pt.dictionary({"x": tensor}),
                {"0": np.zeros(4, np.float32)})
  with pytest.raises(errors.CheckpointError, match="'x' cannot|Quantised"):
    torch_file.read(path)


def test_damaged_and_foreign_files(tmp_path):
  path = tmp_path / "a.pt"
  for data, what in (
      (pickle.dumps({"x": 1}), "not a zip archive, as torch.save"),
      (b"", "not a zip archive"),
      (b"PK\x03\x04" + bytes(50), "cut off or damaged")):
    path.write_bytes(data)
    with pytest.raises(errors.CheckpointError, match=what):
      torch_file.read(path)
  with pytest.raises(errors.CheckpointError, match="No such file"):
    torch_file.read(tmp_path / "none.pt")
  body = pt.dictionary({"x": pt.tensor("Float", "0", (4,), (1,))})
  whole = {"0": np.zeros(4, np.float32)}
  for options, what in (
      (dict(root="a/b"), "0 NAME/data.pkl"),
      (dict(packing=zipfile.ZIP_DEFLATED), "compressed")):
    with pytest.raises(errors.CheckpointError, match=what):
      torch_file.read(pt.write(path, body, whole, **options))
  for body, what in ((b"}(X", "pickle cannot be read"),
                     (pt.dictionary({"x": pt.number(1)}), "no named tensors"),
                     (pt.number(1), "no named tensors")):
    with pytest.raises(errors.CheckpointError, match=what):
      torch_file.read(pt.write(path, body))


def test_dicts_that_hold_each_other_end(tmp_path):
  for key in ("x", "module"):
    inner = {}
    inner[key] = inner
    buffer = io.BytesIO()
    pickle.Pickler(buffer, 2).dump(inner)
    path = pt.write(tmp_path / "a.pt", buffer.getvalue()[2:-1])
    with pytest.raises(errors.CheckpointError, match="hold each other"):
      torch_file.read(path)
