"""The safetensors file format, read lazily and written whole or not at all.

A file is 8 bytes of header length (little endian), a JSON header that names
each tensor's dtype, shape and byte range, and then the bytes. A large model is
a folder of such files (shards) and an index, {"weight_map": {name: file}}.
"""

import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from dreamgen_jax import errors, lazy

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
_INDEX = ".safetensors.index.json"
_CHUNK = 64 << 20  # bytes that are cast at a time
SHARD = 5_000_000_000  # bytes; what the released folders keep to


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
    CheckpointError: missing, cut off, damaged, of an unknown dtype, a name
      that two shards hold, or shards that are not those of the index.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    return _read_file(path)
  indices = sorted(path.glob(f"*{_INDEX}"))
  listed = _read_index(indices[0]) if indices else {}
  shards = ([path / name for name in sorted(set(listed.values()))]
            or sorted(path.glob("*.safetensors")))
  if not shards or len(indices) > 1:
    raise errors.CheckpointError(
        f"{path} holds {f'{len(indices)} indices' if shards else 'no'} "
        "*.safetensors file; it should hold those of one model.")
  tensors, homes = {}, {}
  for shard in shards:
    found = _read_file(shard)
    twice = tensors.keys() & found.keys()
    if twice:
      raise errors.CheckpointError(
          f"{shard} repeats tensor {min(twice)!r} of another file in its "
          "folder; keep the shards of one model only.")
    tensors.update(found)
    homes.update(dict.fromkeys(found, shard.name))
  if indices:
    _compare(indices[0], listed, homes)
  return tensors


def _read_index(path: pathlib.Path) -> dict[str, str]:
  """Tensor -> name of its file."""
  try:
    files = dict(json.loads(path.read_text())["weight_map"])
    proper = files and all(pathlib.PurePath(file).name == file
                           for file in files.values())
  except (KeyError, TypeError, ValueError):
    proper = False
  if not proper:
    raise errors.CheckpointError(
        f"{path} is damaged: it has no weight_map of tensors to files of its "
        "folder.")
  return files


def _compare(index: pathlib.Path, listed: dict[str, str],
             homes: dict[str, str]) -> None:
  """Raises where the index and the shards differ."""
  for name in sorted(listed.keys() | homes.keys()):
    said, found = listed.get(name), homes.get(name)
    if said is None:
      raise errors.CheckpointError(
          f"{index} does not list tensor {name!r}, which is in {found}; fetch "
          "the index again, or the shards that belong to it.")
    if said != found:
      raise errors.CheckpointError(
          f"{index} says that tensor {name!r} is in {said}, but it is in "
          f"{found or 'none of the shards'}; fetch {said} again.")


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

  An array may be a `lazy.Array`: it is made when its turn comes, and cast
  piece by piece.

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
    end = offset + _bytes(tensor)
    header[name] = {"dtype": _NAMES[np.dtype(tensor.dtype)],
                    "shape": list(tensor.shape),
                    "data_offsets": [offset, end]}
    offset = end
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % 8)
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    with temporary.open("wb") as file:
      file.write(len(text).to_bytes(8, "little") + text)
      for name in order:
        for chunk in _chunks(tensors[name]):
          file.write(chunk)
      file.flush()
      os.fsync(file.fileno())
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)


def write_folder(folder: str | os.PathLike, stem: str,
                 tensors: Mapping[str, Any],
                 metadata: Mapping[str, str] | None = None,
                 limit: int = SHARD) -> list[pathlib.Path]:
  """Writes `stem`.safetensors, or shards and their index if there is more.

  Args:
    folder: an existing folder.
    stem: of the file names: stem-00001-of-00003.safetensors.
    tensors, metadata: see `write`.
    limit: bytes of a shard; a larger tensor has one of its own.

  Returns:
    The files, in order.
  """
  folder = pathlib.Path(folder)
  shards: list[dict[str, Any]] = [{}]
  size = 0
  for name in sorted(tensors, key=_natural):
    size += _bytes(tensors[name])
    if size > limit and shards[-1]:
      shards.append({})
      size = _bytes(tensors[name])
    shards[-1][name] = tensors[name]
  names = [f"{stem}-{i:05}-of-{len(shards):05}.safetensors"
           for i in range(1, len(shards) + 1)]
  if len(shards) == 1:
    names = [f"{stem}.safetensors"]
  for name, shard in zip(names, shards, strict=True):
    write(folder / name, shard, metadata)
  if len(shards) > 1:
    total = sum(_bytes(tensor) for tensor in tensors.values())
    (folder / f"{stem}{_INDEX}").write_text(json.dumps({
        "metadata": {"total_size": total},
        "weight_map": {key: name for name, shard in zip(
            names, shards, strict=True) for key in shard}}, indent=2) + "\n")
  return [folder / name for name in names]


def _natural(name: str) -> list[tuple[bool, int, str]]:
  """Sorts blocks.2 before blocks.10."""
  return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part)
          for part in name.split(".")]


def _bytes(tensor: Any) -> int:
  return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize


def _chunks(tensor: Any) -> Iterator[memoryview]:
  """The tensor's bytes, of which few are in memory at a time."""
  dtype = np.dtype(tensor.dtype)
  array = tensor.make() if isinstance(tensor, lazy.Array) else (
      np.asarray(tensor))
  if array.flags.c_contiguous or not array.ndim:
    array = array.reshape(-1)
  rows = max(1, _CHUNK // max(1, array[:1].size * dtype.itemsize))
  for start in range(0, len(array), rows):
    part = np.ascontiguousarray(array[start:start + rows], dtype)
    yield part.reshape(-1).view(np.uint8).data
