"""PyTorch's .pt and .pth files, read without PyTorch and without running them.

Such a file is a zip archive, uncompressed: NAME/data.pkl is a pickle that says
how tensors lie in storages, NAME/data/KEY are the storages' bytes. A pickle is
a program. This one is run with every name that it may mention turned into a
symbol: calling a symbol only notes the call. What is noted is then read.
"""

import collections
import io
import math
import os
import pathlib
import pickle
import zipfile
from typing import Any

import ml_dtypes
import numpy as np

from dreamgen_jax import errors

_DTYPES = {
    "Double": np.float64, "Float": np.float32, "Half": np.float16,
    "BFloat16": ml_dtypes.bfloat16, "Long": np.int64, "Int": np.int32,
    "Short": np.int16, "Char": np.int8, "Byte": np.uint8, "Bool": np.bool_,
    "float64": np.float64, "float32": np.float32, "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16, "int64": np.int64, "int32": np.int32,
    "int16": np.int16, "int8": np.int8, "uint8": np.uint8, "bool": np.bool_,
}
_TENSOR, _PARAMETER = "torch._utils._rebuild_tensor_v2", (
    "torch._utils._rebuild_parameter")
# Of these nothing is kept; some trainers store bytes beside the tensors.
_HARMLESS = {"torch.Size", "torch.device", "_io.BytesIO"}
_STORAGES = {f"torch.{name}Storage" for name in _DTYPES if name[0].isupper()}
_ALLOWED = _HARMLESS | _STORAGES | {
    f"torch.{name}" for name in _DTYPES if name[0].islower()
} | {_TENSOR, _PARAMETER, "torch.storage.UntypedStorage"}
_WRAPPERS = ("module", "state_dict", "model")


class _Symbol:
  """A name in the pickle, and, once it was called, what with."""

  def __init__(self, name: str, arguments: tuple | None = None):
    self.name, self.arguments = name, arguments

  def __call__(self, *arguments):
    return _Symbol(self.name, arguments)


class _Unpickler(pickle.Unpickler):
  """Knows no global but symbols, and OrderedDict, which holds no code."""

  def find_class(self, module, name):
    full = f"{module}.{name}"
    if full == "collections.OrderedDict":
      return collections.OrderedDict
    if full not in _ALLOWED:
      raise errors.CheckpointError(f"{full!r}")
    return _Symbol(full)

  def persistent_load(self, pid):
    return _Symbol("storage", tuple(pid))


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Opens a file that torch.save wrote, of named tensors.

  Returns:
    name -> read-only view of the file. Names within nested dicts are joined by
    "."; an outer dict that only wraps the tensors ("module", "state_dict",
    "model") is passed by, as is all that is not a tensor.

  Raises:
    CheckpointError: missing, damaged, of the old format that is no zip
      archive, or the pickle names anything but tensors; nothing is run.
  """
  path = pathlib.Path(path)
  try:
    with path.open("rb") as file:
      start = file.read(4)
    if start != b"PK\x03\x04":
      raise errors.CheckpointError(
          f"{path} is not a zip archive, as torch.save has written since "
          "PyTorch 1.6; save it again with a newer one, or as safetensors.")
    with zipfile.ZipFile(path) as archive:
      return _read(path, archive)
  except OSError as error:
    raise errors.CheckpointError(
        f"Cannot read {path}: {error.strerror or error}.") from error
  except zipfile.BadZipFile as error:
    raise errors.CheckpointError(
        f"{path} is cut off or damaged: {error}.") from error


def _read(path, archive):
  pickles = [name for name in archive.namelist()
             if name.endswith("/data.pkl") and name.count("/") == 1]
  if len(pickles) != 1:
    raise errors.CheckpointError(
        f"{path} is a zip archive, but not one of torch.save: it holds "
        f"{len(pickles)} NAME/data.pkl.")
  root = pickles[0].removesuffix("data.pkl")
  if f"{root}byteorder" in archive.namelist() and (
      archive.read(f"{root}byteorder") != b"little"):
    raise errors.CheckpointError(
        f"{path} was written by a big-endian machine; save it again on a "
        "little-endian one.")
  try:
    tree = _Unpickler(io.BytesIO(archive.read(pickles[0]))).load()
  except errors.CheckpointError as error:
    raise errors.CheckpointError(
        f"{path} names {error}, which a file of tensors has no need for; it "
        "was not run. Save the tensors alone, best as safetensors.") from None
  except Exception as error:  # a damaged pickle may raise anything
    raise errors.CheckpointError(
        f"{path} is damaged: its pickle cannot be read ({error}).") from error
  tensors: dict[str, np.ndarray] = {}
  try:
    _collect(_unwrap(tree), "", _Storages(path, archive, root), tensors)
  except RecursionError as error:
    raise errors.CheckpointError(
        f"{path} is damaged: its dicts hold each other.") from error
  if not tensors:
    raise errors.CheckpointError(f"{path} holds no named tensors.")
  return tensors


def _unwrap(tree: Any) -> Any:
  if isinstance(tree, dict) and not any(map(_is_tensor, tree.values())):
    for key in _WRAPPERS:
      if isinstance(tree.get(key), dict):
        return _unwrap(tree[key])
  return tree


def _is_tensor(value: Any) -> bool:
  return isinstance(value, _Symbol) and value.arguments is not None and (
      value.name in (_TENSOR, _PARAMETER))


def _collect(tree, prefix, storages, out):
  """Adds the tensors of nested dicts to `out`."""
  if isinstance(tree, dict):
    for key, value in tree.items():
      _collect(value, f"{prefix}.{key}" if prefix else str(key), storages, out)
  elif _is_tensor(tree):
    if tree.name == _PARAMETER:
      tree = tree.arguments[0] if tree.arguments else tree
    out[prefix] = storages.tensor(prefix, tree)


class _Storages:
  """Finds tensors in the file, without a copy."""

  def __init__(self, path, archive, root):
    self.path, self.archive, self.root = path, archive, root
    self.bytes = np.asarray(np.memmap(path, np.uint8, "r"))

  def tensor(self, name, symbol):
    """The view that a noted call of the tensor's constructor asks for."""
    try:
      storage, offset, shape, strides, *_ = symbol.arguments
      _, kind, key, _, _ = storage.arguments
      dtype = np.dtype(_DTYPES[kind.name.removeprefix("torch.").removesuffix(
          "Storage")])
      data = self._storage(f"{self.root}data/{key}")
      data = data[:len(data) // dtype.itemsize * dtype.itemsize].view(dtype)
      numbers = (offset, *shape, *strides)
      if len(shape) != len(strides) or any(
          type(number) is not int or number < 0 for number in numbers):
        raise ValueError("no proper shape")
      last = offset + sum((size - 1) * stride for size, stride
                          in zip(shape, strides, strict=True))
      empty = math.prod(shape) == 0
      if not empty and last >= len(data):
        raise ValueError("it is longer than its storage")
      if empty:
        return np.zeros(shape, dtype)
      return np.lib.stride_tricks.as_strided(
          data[offset:], shape,
          [stride * dtype.itemsize for stride in strides], writeable=False)
    except (ArithmeticError, AttributeError, KeyError, TypeError,
            ValueError) as error:
      raise errors.CheckpointError(
          f"{self.path} is damaged: tensor {name!r} cannot be found "
          f"({error}).") from error

  def _storage(self, member):
    info = self.archive.getinfo(member)
    if info.compress_type != zipfile.ZIP_STORED:
      raise ValueError("its storage is compressed")
    # The local header repeats the name, with an extra field of its own.
    head = self.bytes[info.header_offset:info.header_offset + 30].tobytes()
    begin = info.header_offset + 30 + int.from_bytes(
        head[26:28], "little") + int.from_bytes(head[28:30], "little")
    if begin + info.file_size > len(self.bytes):
      raise ValueError("its storage is cut off")
    return self.bytes[begin:begin + info.file_size]
