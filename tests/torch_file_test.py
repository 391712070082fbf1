"""Files as torch.save writes them, made here by hand; and wicked ones."""

import io
import os
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from dreamgen_jax import errors, torch_file

PROTO, STOP, EMPTY_DICT, MARK, TUPLE = b"\x80\x02", b".", b"}", b"(", b"t"
SETITEMS, REDUCE, BINPERSID, EMPTY_TUPLE, BUILD = b"u", b"R", b"Q", b")", b"b"


def _global(module, name):
  return f"c{module}\n{name}\n".encode()


def _text(text):
  data = text.encode()
  return b"X" + struct.pack("<I", len(data)) + data


def _number(number):
  return b"J" + struct.pack("<i", number)


def _tuple(*items):
  return MARK + b"".join(items) + TUPLE


def _dict(items):
  return EMPTY_DICT + MARK + b"".join(
      _text(key) + value for key, value in items.items()) + SETITEMS


def _ordered(items):
  """As a module's state_dict: an OrderedDict with _metadata."""
  empty = _global("collections", "OrderedDict") + EMPTY_TUPLE + REDUCE
  return (empty + MARK + b"".join(_text(k) + v for k, v in items.items())
          + SETITEMS + _dict({"_metadata": EMPTY_DICT}) + BUILD)


def _tensor(kind, key, shape, strides, offset=0, size=99):
  storage = _tuple(_text("storage"), _global("torch", f"{kind}Storage"),
                   _text(key), _text("cpu"), _number(size)) + BINPERSID
  hooks = _global("collections", "OrderedDict") + EMPTY_TUPLE + REDUCE
  return _global("torch._utils", "_rebuild_tensor_v2") + _tuple(
      storage, _number(offset), _tuple(*map(_number, shape)),
      _tuple(*map(_number, strides)), b"\x89", hooks) + REDUCE


def _write(path, body, storages=None, root="archive", packing=None):
  with zipfile.ZipFile(path, "w", packing or zipfile.ZIP_STORED) as archive:
    archive.writestr(f"{root}/data.pkl", PROTO + body + STOP)
    archive.writestr(f"{root}/byteorder", "little")
    for key, array in (storages or {}).items():
      entry = zipfile.ZipInfo(f"{root}/data/{key}")
      entry.extra = b"FB\x05\x00ZZZZZ"  # torch pads so, to align storages
      entry.compress_type = packing or zipfile.ZIP_STORED
      archive.writestr(entry, np.asarray(array).tobytes())
    archive.writestr(f"{root}/version", "3\n")
  return path


def test_tensors_are_views_of_the_file(tmp_path):
  numbers = np.arange(12, dtype=np.float32)
  half = np.arange(4).astype(ml_dtypes.bfloat16)
  path = _write(tmp_path / "a.pt", _ordered({
      "a.weight": _tensor("Float", "0", (3, 2), (2, 1), 4),
      "a.turned": _tensor("Float", "0", (2, 3), (1, 2), 4),
      "b": _tensor("BFloat16", "1", (4,), (1,)),
      "count": _tensor("Long", "2", (), ()),
      "none": _tensor("Float", "0", (0, 3), (3, 1)),
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
  parameter = _global("torch._utils", "_rebuild_parameter") + _tuple(
      _tensor("Float", "0", (2,), (1,)), b"\x88", EMPTY_DICT) + REDUCE
  state = _global("_io", "BytesIO") + EMPTY_TUPLE + REDUCE
  path = _write(tmp_path / "a.pt", _dict({
      "step": _number(3), "module": _dict({
          "net": _dict({"weight": parameter}), "net._extra_state": state,
          "dtype": _global("torch", "bfloat16")})}), {"0": np.float32([1, 2])})
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
    path = _write(tmp_path / f"{number}.pt", body)
    with pytest.raises(
        errors.CheckpointError, match=f"names '{name}'.*not run"):
      torch_file.read(path)
  assert not witness.exists()
  # The same bytes do run in the ordinary unpickler, so the test can fail.
  pickle.loads(pickle.dumps(_Wicked(os.system, f"touch {witness}")))
  assert witness.exists()


def test_symbols_cannot_be_made_into_code(tmp_path):
  """BUILD may set attributes of what is on the stack; only symbols are."""
  body = _dict({"x": _global("torch", "FloatStorage") + _dict({
      "__setstate__": _global("torch", "HalfStorage")}) + BUILD})
  with pytest.raises(errors.CheckpointError, match="no named tensors"):
    torch_file.read(_write(tmp_path / "a.pt", body))
  body = _global("collections", "OrderedDict") + _tuple(
      b"N", _dict({"update": _number(1)})) + BUILD
  with pytest.raises(errors.CheckpointError, match="damaged"):
    torch_file.read(_write(tmp_path / "b.pt", body))


@pytest.mark.parametrize("tensor", [
    _tensor("Float", "0", (5,), (1,)), _tensor("Float", "0", (2,), (4,)),
    _tensor("Float", "0", (1,), (1,), 4), _tensor("Float", "1", (1,), (1,)),
    _tensor("Float", "0", (2,), (-1,), 2), _tensor("Float", "0", (2, 1), (1,)),
    _tensor("Float", "0", (-1,), (1,)), _tensor("Quantised", "0", (1,), (1,)),
    _global("torch._utils", "_rebuild_tensor_v2") + EMPTY_TUPLE + REDUCE,
])
def test_tensors_outside_their_storage_are_refused(tmp_path, tensor):
  path = _write(tmp_path / "a.pt", _dict({"x": tensor}),
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
  body = _dict({"x": _tensor("Float", "0", (4,), (1,))})
  whole = {"0": np.zeros(4, np.float32)}
  for options, what in (
      (dict(root="a/b"), "0 NAME/data.pkl"),
      (dict(packing=zipfile.ZIP_DEFLATED), "compressed")):
    with pytest.raises(errors.CheckpointError, match=what):
      torch_file.read(_write(path, body, whole, **options))
  for body, what in ((b"}(X", "pickle cannot be read"),
                     (_dict({"x": _number(1)}), "no named tensors"),
                     (_number(1), "no named tensors")):
    with pytest.raises(errors.CheckpointError, match=what):
      torch_file.read(_write(path, body))


def test_dicts_that_hold_each_other_end(tmp_path):
  for key in ("x", "module"):
    inner = {}
    inner[key] = inner
    buffer = io.BytesIO()
    pickle.Pickler(buffer, 2).dump(inner)
    path = _write(tmp_path / "a.pt", buffer.getvalue()[2:-1])
    with pytest.raises(errors.CheckpointError, match="hold each other"):
      torch_file.read(path)
