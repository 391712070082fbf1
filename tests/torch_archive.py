"""Writes files as torch.save does, opcode by opcode, without PyTorch."""

import pathlib
import struct
import zipfile
from collections.abc import Mapping

import ml_dtypes
import numpy as np

PROTO, STOP, EMPTY_DICT, MARK, TUPLE = b"\x80\x02", b".", b"}", b"(", b"t"
SETITEMS, REDUCE, BINPERSID, EMPTY_TUPLE, BUILD = b"u", b"R", b"Q", b")", b"b"
_KINDS = {np.dtype(np.float32): "Float", np.dtype(np.float16): "Half",
          np.dtype(ml_dtypes.bfloat16): "BFloat16", np.dtype(np.int64): "Long"}


def named(module, name):
  return f"c{module}\n{name}\n".encode()


def text(words):
  data = words.encode()
  return b"X" + struct.pack("<I", len(data)) + data


def number(value):
  return b"J" + struct.pack("<i", value)


def sequence(*items):
  return MARK + b"".join(items) + TUPLE


def dictionary(items):
  return EMPTY_DICT + MARK + b"".join(
      text(key) + value for key, value in items.items()) + SETITEMS


def ordered(items):
  """As a module's state_dict: an OrderedDict with _metadata."""
  empty = named("collections", "OrderedDict") + EMPTY_TUPLE + REDUCE
  return (empty + MARK + b"".join(text(k) + v for k, v in items.items())
          + SETITEMS + dictionary({"_metadata": EMPTY_DICT}) + BUILD)


def tensor(kind, key, shape, strides, offset=0, size=99):
  storage = sequence(text("storage"), named("torch", f"{kind}Storage"),
                     text(key), text("cpu"), number(size)) + BINPERSID
  hooks = named("collections", "OrderedDict") + EMPTY_TUPLE + REDUCE
  return named("torch._utils", "_rebuild_tensor_v2") + sequence(
      storage, number(offset), sequence(*map(number, shape)),
      sequence(*map(number, strides)), b"\x89", hooks) + REDUCE


def write(path: pathlib.Path, body: bytes, storages=None, root="archive",
          packing=zipfile.ZIP_STORED) -> pathlib.Path:
  """A file with this program as its pickle."""
  with zipfile.ZipFile(path, "w", packing) as archive:
    archive.writestr(f"{root}/data.pkl", PROTO + body + STOP)
    archive.writestr(f"{root}/byteorder", "little")
    for key, array in (storages or {}).items():
      entry = zipfile.ZipInfo(f"{root}/data/{key}")
      entry.extra = b"FB\x05\x00ZZZZZ"  # torch pads so, to align storages
      entry.compress_type = packing
      archive.writestr(entry, np.asarray(array).tobytes())
    archive.writestr(f"{root}/version", "3\n")
  return path


def save(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
  """As torch.save of a state_dict."""
  body, storages = {}, {}
  for key, (name, array) in enumerate(tensors.items()):
    strides = [np.prod(array.shape[axis + 1:], dtype=int)
               for axis in range(array.ndim)]
    body[name] = tensor(_KINDS[array.dtype], str(key), array.shape, strides)
    storages[str(key)] = array
  write(path, ordered(body), storages)
