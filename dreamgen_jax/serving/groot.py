"""GR00T's ZMQ protocol: MessagePack requests to named endpoints.

As Isaac-GR00T's clients of N1.5 and N1.6 speak it: a REQ socket sends
{"endpoint": ..., "data": ...} and gets a map, or [actions, info] where it sent
{"observation": ...}; a mistake is answered with {"error": ...}. "ping" tells
whether the server is well. Requests of several clients are answered at once.
"""

import asyncio
import hmac
from collections.abc import Mapping
from typing import Any

import numpy as np
import zmq
import zmq.asyncio

from dreamgen_jax import errors
from dreamgen_jax.serving import batch, codec
from dreamgen_jax.serving import endpoint as endpoint_lib

LANGUAGE = "annotation.human.action.task_description"


class Service:
  """Answers all clients."""

  def __init__(self, endpoint: endpoint_lib.Endpoint, batcher: batch.Batcher,
               api_key: str = ""):
    """Clients must send `api_key` as "api_token", unless it is empty."""
    self._endpoint, self._batcher = endpoint, batcher
    self._wanted = api_key.encode()
    robot = endpoint.agent.robot
    self._state = endpoint_lib.slices(robot.state)
    self._action = endpoint_lib.slices(robot.action)

  async def serve(self, host: str, port: int,
                  ready: asyncio.Future | None = None) -> None:
    """Answers until it is cancelled.

    Args:
      host: address to listen at.
      port: of it; 0 is any free one.
      ready: is given the port that is listened at.
    """
    pending: set[asyncio.Task] = set()
    with zmq.asyncio.Context() as context, context.socket(
        zmq.ROUTER) as socket:
      socket.setsockopt(zmq.MAXMSGSIZE, codec.MAX_BYTES)
      socket.setsockopt(zmq.LINGER, 0)
      socket.bind(f"tcp://{host}:{port or '*'}")
      if ready:
        address = str(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        ready.set_result(int(address.rpartition(":")[2]))
      while True:
        *sender, message = await socket.recv_multipart()
        task = asyncio.create_task(self._reply(socket, sender, message))
        pending.add(task)
        task.add_done_callback(pending.discard)

  async def _reply(self, socket: Any, sender: list[bytes],
                   message: bytes) -> None:
    await socket.send_multipart([*sender, await self.answer(message)])

  async def answer(self, message: bytes) -> bytes:
    """The reply to any bytes whatever."""
    try:
      return codec.GROOT.pack(
          await self._dispatch(codec.GROOT.unpack(message)))
    except Exception as error:
      return codec.GROOT.pack({"error": codec.explain(error)})

  async def _dispatch(self, request: Any) -> Any:
    if not isinstance(request, dict):
      raise errors.DataError(
          f"A request is a map, not {type(request).__name__}.")
    token = str(request.get("api_token", "")).encode()
    if self._wanted and not hmac.compare_digest(token, self._wanted):
      raise errors.DataError("Unauthorized: the API token is missing or wrong.")
    name = request.get("endpoint", "get_action")
    if name == "ping":
      return {"status": "ok", "message": "Server is running"}
    if name == "get_modality_config":
      return self.modalities()
    if name == "reset":
      return {}
    if name != "get_action":
      raise errors.DataError(
          f"Unknown endpoint {name!r}; have: get_action, "
          "get_modality_config, ping, reset.")
    data = request.get("data")
    if not isinstance(data, dict):
      raise errors.DataError("get_action needs an observation in 'data'.")
    if "observation" in data:
      return [await self._act(data["observation"]), {}]
    return await self._act(data)

  def modalities(self) -> dict[str, codec.Modality]:
    """What an observation holds, and what is answered."""
    c = self._endpoint.agent.model.config
    past = tuple(range(1 - c.n_obs_steps, 1))
    return {
        "video": codec.Modality(past, tuple(
            f"video.{camera}" for camera in c.cameras)),
        "state": codec.Modality(past, tuple(
            f"state.{name}" for name in self._state)),
        "action": codec.Modality(
            tuple(range(c.horizon - c.n_obs_steps + 1)),
            tuple(f"action.{name}" for name in self._action)),
        "language": codec.Modality((0,), (LANGUAGE,)),
    }

  async def _act(self, observation: Any) -> dict[str, np.ndarray]:
    rows, batched = await asyncio.to_thread(self._read, observation)
    chunks = np.stack(await asyncio.gather(*map(self._batcher, rows)))
    return {f"action.{name}": chunks[..., where] if batched
            else chunks[0, ..., where]
            for name, where in self._action.items()}

  def _read(self, observation: Any) -> tuple[list[dict[str, Any]], bool]:
    """(an observation per row, whether the request had a batch axis)."""
    if not isinstance(observation, dict):
      raise errors.DataError(
          f"An observation is a map, not {type(observation).__name__}.")
    given = _flat(observation)
    leaves = {key: np.asarray(value) for key, value in given.items()
              if key.startswith(("video.", "state."))}
    states = {f"state.{name}": where for name, where in self._state.items()}
    lacking = [key for key in states if key not in leaves]
    if 0 < len(lacking) < len(states):
      raise errors.DataError(f"The observation lacks {', '.join(lacking)}.")
    words = [value for key, value in given.items()
             if key.startswith(("annotation.", "language."))]
    if not words:
      raise errors.DataError(
          f"The observation has no instruction; send it as {LANGUAGE}.")
    texts = np.asarray(words[0]).reshape(-1).tolist()
    batched = any(leaf.ndim == 5 for leaf in leaves.values())
    if not batched:
      leaves = {key: leaf[None] for key, leaf in leaves.items()}
    count = max((leaf.shape[0] for leaf in leaves.values() if leaf.ndim),
                default=1)
    if any(leaf.shape[:1] != (count,) for leaf in leaves.values()) or (
        len(texts) not in (1, count)):
      raise errors.DataError(
          "Videos, states and instructions differ in the number of rows.")
    for key, where in () if lacking else states.items():
      width = where.stop - where.start
      if leaves[key].ndim < 2 or leaves[key].shape[-1] != width:
        raise errors.DataError(
            f"{key} must have {width} values, not {leaves[key].shape}.")
    return [self._endpoint.observation(
        {key.removeprefix("video."): leaf[row] for key, leaf in leaves.items()
         if key.startswith("video.")},
        None if lacking else np.concatenate(
            [leaves[key][row] for key in states], axis=-1),
        texts[row % len(texts)]) for row in range(count)], batched


def _flat(observation: Mapping[Any, Any]) -> dict[str, Any]:
  """{"video": {"front": x}} -> {"video.front": x}; flat ones as they are."""
  found: dict[str, Any] = {}
  for key, value in observation.items():
    if isinstance(value, dict):
      found |= {f"{key}.{inner}": leaf for inner, leaf in value.items()}
    else:
      found[str(key)] = value
  return found
