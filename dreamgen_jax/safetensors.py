"""The safetensors file format, read lazily and written whole or not at all.

A file is 8 bytes of header length (little endian), a JSON header that names
each tensor's dtype, shape and byte range, and then the bytes.
"""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from dreamgen_jax import errors

_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def _header(path: pathlib.Path) -> tuple[dict[str, Any], int]:
  """(header, offset of the first data byte)."""
  try:
    size = path.stat().st_size
    with path.open("rb") as file:
      length = int.from_bytes(file.read(8), "little")
      if size < 8 or length > size - 8:
        raise errors.CheckpointError(
            f"{path} is cut off: its header should end at byte {8 + length}, "
            f"the file has {size}.")
      header = json.loads(file.read(length))
  except OSError as error:
    raise errors.CheckpointError(
        f"Cannot read {path}: {error.strerror}.") from error
  except ValueError as error:
    if isinstance(error, errors.CheckpointError):
      raise
    raise errors.CheckpointError(
        f"{path} is not a safetensors file: its header is not JSON."
    ) from error
  if not isinstance(header, dict):
    raise errors.CheckpointError(
        f"{path} is not a safetensors file: its header is not an object.")
  return header, 8 + length


def metadata(path: str | os.PathLike) -> dict[str, str]:
  """The file's free-form strings; empty if it has none.

  Raises:
    CheckpointError: the file is missing or damaged.
  """
  return dict(_header(pathlib.Path(path))[0].get("__metadata__") or {})


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Opens a file, or a folder whose *.safetensors are shards of one model.

  Returns:
    name -> read-only view of the file; a tensor's bytes are read from disk
    when it is used.

  Raises:
    CheckpointError: missing, cut off, damaged, of an unknown dtype, or a name
      that two shards hold.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    return _read_file(path)
  shards = sorted(path.glob("*.safetensors"))
  if not shards:
    raise errors.CheckpointError(f"{path} holds no *.safetensors file.")
  tensors = {}
  for shard in shards:
    found = _read_file(shard)
    twice = tensors.keys() & found.keys()
    if twice:
      raise errors.CheckpointError(
          f"{shard} repeats tensor {min(twice)!r} of another file in its "
          "folder; keep the shards of one model only.")
    tensors.update(found)
  return tensors


def _read_file(path: pathlib.Path) -> dict[str, np.ndarray]:
  header, start = _header(path)
  data = np.asarray(np.memmap(path, np.uint8, "r"))[start:]
  tensors = {}
  for name, entry in header.items():
    if name == "__metadata__":
      continue
    try:
      dtype, shape = entry["dtype"], tuple(entry["shape"])
      begin, end = entry["data_offsets"]
      count = math.prod(shape)
    except (KeyError, TypeError, ValueError) as error:
      raise errors.CheckpointError(
          f"{path} is damaged: the header's entry for {name!r} has no proper "
          "dtype, shape and data_offsets.") from error
    if dtype not in _DTYPES:
      raise errors.CheckpointError(
          f"{path}: tensor {name!r} is of dtype {dtype}; this reads "
          f"{', '.join(_DTYPES)}.")
    if not 0 <= begin <= end <= len(data):
      raise errors.CheckpointError(
          f"{path} is cut off: tensor {name!r} should end at byte "
          f"{start + end}, the file has {start + len(data)}.")
    if end - begin != count * _DTYPES[dtype].itemsize:
      raise errors.CheckpointError(
          f"{path} is damaged: tensor {name!r} of {dtype}{list(shape)} has "
          f"{end - begin} bytes.")
    tensors[name] = data[begin:end].view(_DTYPES[dtype]).reshape(shape)
  return tensors


def write(path: str | os.PathLike, tensors: Mapping[str, Any],
          metadata: Mapping[str, str] | None = None) -> None:
  """Writes name -> array under a temporary file name, then renames the file.

  Raises:
    CheckpointError: an array of a dtype that the format's readers lack.
  """
  path = pathlib.Path(path)
  for name, tensor in tensors.items():
    if np.dtype(tensor.dtype) not in _NAMES:
      raise errors.CheckpointError(
          f"Tensor {name!r} is of dtype {tensor.dtype}; {path} can hold "
          f"{', '.join(_DTYPES)}.")
  # Wide dtypes first, so that every tensor starts at a multiple of its item.
  order = sorted(
      tensors, key=lambda n: (-np.dtype(tensors[n].dtype).itemsize, n))
  header: dict[str, Any] = {}
  if metadata:
    header["__metadata__"] = dict(metadata)
  offset = 0
  for name in order:
    tensor = tensors[name]
    dtype = np.dtype(tensor.dtype)
    end = offset + math.prod(tensor.shape) * dtype.itemsize
    header[name] = {"dtype": _NAMES[dtype], "shape": list(tensor.shape),
                    "data_offsets": [offset, end]}
    offset = end
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % 8)
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    with temporary.open("wb") as file:
      file.write(len(text).to_bytes(8, "little") + text)
      for name in order:
        flat = np.ascontiguousarray(tensors[name]).reshape(-1)
        file.write(flat.view(np.uint8).data)
      file.flush()
      os.fsync(file.fileno())
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)
