"""The bytes of openpi's and GR00T's messages: MessagePack with arrays.

openpi (openpi-client's msgpack_numpy) marks an array with byte-string keys and
sends its raw data; GR00T (Isaac-GR00T's MsgSerializer, N1.5 and later) sends a
.npy file. GR00T N1's own service sends pickles, which run code when they are
read: those are refused, as is everything else that is not plain numbers, text
and arrays. Whatever comes in, `unpack` returns a value or raises a DataError.
"""

import dataclasses
import io
import json
import re
import traceback
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np

from dreamgen_jax import errors

MAX_BYTES = 64 << 20  # of a message
# Booleans, whole numbers, floats, text and bytes; no objects, no records.
_DTYPE = re.compile(r"[<>|=]?[biufSU]\d+")
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclasses.dataclass(frozen=True)
class Modality:
  """GR00T's answer to "which keys": steps relative to now, and names."""

  delta_indices: tuple[int, ...]
  modality_keys: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Codec:
  """One flavour of messages.

  Attributes:
    name: "openpi" or "groot".
    encode: what MessagePack does not know -> a map that it does.
    decode: a map -> what it stands for, or the map itself.
  """

  name: str
  encode: Callable[[Any], Any]
  decode: Callable[[dict], Any]

  def pack(self, value: Any) -> bytes:
    """Nested dicts, lists, arrays, numbers and text -> a message.

    Raises:
      TypeError: something else is in it.
    """
    return msgpack.packb(value, default=self.encode)

  def unpack(self, message: bytes) -> Any:
    """Inverse of `pack`; arrays are read-only views of the message.

    Raises:
      DataError: it is no message of this flavour.
    """
    try:
      # openpi's marks are bytes, so keys need not be text.
      return msgpack.unpackb(
          message, object_hook=self.decode, strict_map_key=False)
    except errors.DataError:
      raise
    except Exception as error:  # of any kind: the bytes are a stranger's
      raise errors.DataError(
          f"This is no {self.name} message of {len(message)} bytes: "
          f"{type(error).__name__}: {error}.") from error


def _dtype(text: Any) -> np.dtype:
  if not isinstance(text, str) or not _DTYPE.fullmatch(text):
    raise errors.DataError(
        f"Arrays are of booleans, numbers or text, not of {text!r}.")
  return np.dtype(text)


def _array(data: bytes, dtype: np.dtype, shape: Any) -> np.ndarray:
  if any(type(side) is not int or side < 0 for side in shape):
    raise errors.DataError(f"An array cannot be of shape {list(shape)}.")
  return np.frombuffer(data, dtype).reshape(shape)


# --- openpi ------------------------------------------------------------------
def _to_openpi(value: Any) -> Any:
  if isinstance(value, np.ndarray | np.generic):
    if not _DTYPE.fullmatch(value.dtype.str):
      raise TypeError(f"Arrays of {value.dtype} cannot be sent.")
    if isinstance(value, np.ndarray):
      return {b"__ndarray__": True, b"data": value.tobytes(),
              b"dtype": value.dtype.str, b"shape": value.shape}
    return {b"__npgeneric__": True, b"data": value.item(),
            b"dtype": value.dtype.str}
  raise TypeError(f"{type(value).__name__} cannot be sent.")


def _from_openpi(found: dict) -> Any:
  if b"__ndarray__" in found:
    return _array(found[b"data"], _dtype(found[b"dtype"]), found[b"shape"])
  if b"__npgeneric__" in found:
    return _dtype(found[b"dtype"]).type(found[b"data"])
  return found


# --- GR00T -------------------------------------------------------------------
def _to_groot(value: Any) -> Any:
  if isinstance(value, np.ndarray):
    file = io.BytesIO()
    np.save(file, value, allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": file.getvalue()}
  if isinstance(value, Modality):
    return {"__ModalityConfig_class__": True, "as_json": json.dumps(
        dataclasses.asdict(value), separators=(",", ":"))}
  raise TypeError(f"{type(value).__name__} cannot be sent.")


def _from_groot(found: dict) -> Any:
  if "__ndarray_class__" in found:
    return _npy(found["as_npy"])
  if "__ModalityConfig_class__" in found:
    said = json.loads(found["as_json"])
    return Modality(tuple(said["delta_indices"]),
                    tuple(said["modality_keys"]))
  return found


def _npy(content: bytes) -> np.ndarray:
  """A .npy file; unlike `np.load` it holds no more than was sent."""
  file = io.BytesIO(content)
  version = np.lib.format.read_magic(file)
  if version not in _HEADERS:
    raise errors.DataError(f"Version {version} of .npy files is not known.")
  shape, columns_first, dtype = _HEADERS[version](file)
  values = _array(content[file.tell():], _dtype(dtype.str),
                  shape[::-1] if columns_first else shape)
  return values.T if columns_first else values


OPENPI = Codec("openpi", _to_openpi, _from_openpi)
GROOT = Codec("groot", _to_groot, _from_groot)


def explain(error: Exception) -> str:
  """What a client is told; our own faults are told to the log alone."""
  if isinstance(error, errors.UserError):
    return str(error)
  traceback.print_exception(error)
  return "The server failed; its log says why."
