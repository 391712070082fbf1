"""openpi's websocket protocol, as openpi-client speaks it.

The server greets with its metadata; then every message is an observation and
every answer a chunk of actions. A mistake is answered with a text frame, and
the connection is closed with code 1011. GET /healthz answers "OK".
"""

import asyncio
import contextlib
import hmac
import http
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from websockets import exceptions
from websockets.asyncio import server

from dreamgen_jax import errors
from dreamgen_jax.serving import batch, codec
from dreamgen_jax.serving import endpoint as endpoint_lib

_INTERNAL_ERROR = 1011

# What clients call cameras and states, in the policy's order. The default has
# the policy's own names of cameras.
LAYOUTS = {
    "droid": (("observation/exterior_image_1_left",
               "observation/wrist_image_left"),
              ("observation/joint_position", "observation/gripper_position")),
    "libero": (("observation/image", "observation/wrist_image"),
               ("observation/state",)),
    "aloha": (("images/cam_high", "images/cam_left_wrist",
               "images/cam_right_wrist"), ("state",)),
}


class Reader:
  """What an observation's keys mean."""

  def __init__(self, cameras: Sequence[str], layout: str = ""):
    """For a policy's cameras; `layout` is a key of LAYOUTS, or empty.

    Raises:
      ConfigError: the layout is unknown, or has fewer cameras.
    """
    if layout and layout not in LAYOUTS:
      raise errors.ConfigError(
          f"Unknown layout {layout!r}; have: {', '.join(LAYOUTS)}.")
    own = tuple(f"observation/{camera}" for camera in cameras)
    pictures, states = LAYOUTS.get(layout, (own, ("observation/state",)))
    self._state: tuple[str, ...] = states
    if len(pictures) < len(cameras):
      raise errors.ConfigError(
          f"The policy sees {len(cameras)} cameras ({', '.join(cameras)}), and "
          f"the layout {layout!r} has {len(pictures)}.")
    self._pictures = dict(zip(cameras, pictures, strict=False))

  def __call__(self, request: Any, endpoint: endpoint_lib.Endpoint
               ) -> dict[str, Any]:
    """A decoded message as the endpoint's observation.

    Raises:
      DataError: something is missing, or of another shape.
    """
    if not isinstance(request, dict):
      raise errors.DataError(
          f"An observation is a map, not {type(request).__name__}.")
    given = dict(_flat(request))
    state = None
    if any(key in given for key in self._state):
      state = np.concatenate([np.atleast_1d(
          _wanted(given, key)) for key in self._state], axis=-1)
    return endpoint.observation(
        {camera: _picture(_wanted(given, key))
         for camera, key in self._pictures.items()},
        state, _wanted(given, "prompt"))


def _flat(tree: Mapping[Any, Any], above: str = ""
          ) -> Iterator[tuple[str, Any]]:
  """{"images": {"high": x}} -> ("images/high", x)."""
  for key, value in tree.items():
    if isinstance(value, dict):
      yield from _flat(value, f"{above}{key}/")
    else:
      yield f"{above}{key}", value


def _wanted(given: Mapping[str, Any], key: str) -> Any:
  if key not in given:
    raise errors.DataError(
        f"The observation lacks {key!r}; it has "
        f"{', '.join(map(repr, sorted(given))) or 'nothing'}.")
  return given[key]


def _picture(image: Any) -> np.ndarray:
  """Clients also send channels first, and floats in [0, 1]."""
  image = np.asarray(image)
  if image.dtype.kind == "f":
    image = (255 * np.clip(np.nan_to_num(image), 0, 1)).astype(np.uint8)
  if image.ndim >= 3 and image.shape[-3] == 3 and image.shape[-1] != 3:
    image = np.moveaxis(image, -3, -1)
  return image


class Service:
  """Talks with all clients."""

  def __init__(self, endpoint: endpoint_lib.Endpoint, batcher: batch.Batcher,
               reader: Reader, metadata: Mapping[str, Any],
               api_key: str = ""):
    """`metadata` greets clients, who must show `api_key` unless it is empty.
    """
    self._endpoint, self._batcher, self._reader = endpoint, batcher, reader
    self._greeting = codec.OPENPI.pack(dict(metadata))
    self._wanted = f"Api-Key {api_key}".encode() if api_key else b""

  def serve(self, host: str, port: int) -> Any:
    """Listens while the result is entered; port 0 is any free one."""
    return server.serve(
        self._talk, host, port, process_request=self._admit, compression=None,
        max_size=codec.MAX_BYTES)

  def _admit(self, connection: server.ServerConnection, request: Any) -> Any:
    if request.path == "/healthz":
      return connection.respond(http.HTTPStatus.OK, "OK\n")
    shown = " ".join(request.headers.get_all("Authorization"))
    if self._wanted and not hmac.compare_digest(
        shown.encode(), self._wanted):
      return connection.respond(
          http.HTTPStatus.UNAUTHORIZED, "The API key is missing or wrong.\n")
    return None

  async def _talk(self, connection: server.ServerConnection) -> None:
    took = None
    with contextlib.suppress(exceptions.ConnectionClosed):
      await connection.send(self._greeting)
      async for message in connection:
        begin = time.monotonic()
        try:
          answer = await self._answer(message)
        except Exception as error:
          await connection.send(codec.explain(error))
          await connection.close(_INTERNAL_ERROR, "See the last message.")
          return
        now = time.monotonic()
        timing = {"infer_ms": 1000 * (now - begin)}
        if took is not None:
          timing["prev_total_ms"] = 1000 * took
        await connection.send(
            codec.OPENPI.pack(answer | {"server_timing": timing}))
        took = time.monotonic() - begin

  async def _answer(self, message: bytes | str) -> dict[str, Any]:
    if isinstance(message, str):
      raise errors.DataError("Observations come as binary messages, not text.")
    request = await asyncio.to_thread(lambda: self._reader(
        codec.OPENPI.unpack(message), self._endpoint))
    begin = time.monotonic()
    chunk = await self._batcher(request)
    return {"actions": chunk, "policy_timing": {
        "infer_ms": 1000 * (time.monotonic() - begin)}}

