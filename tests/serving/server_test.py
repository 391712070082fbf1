"""Both servers, talked to over sockets; the policy is a stand-in."""

import asyncio
import contextlib
import os
import subprocess
import time
import types
import urllib.error
import urllib.request

import numpy as np
import pytest

from dreamgen_jax import errors, registry, serve
from dreamgen_jax.serving import batch, codec
from dreamgen_jax.serving import endpoint as endpoint_lib

pytest.importorskip("websockets")
pytest.importorskip("zmq")

import zmq.asyncio
from websockets import exceptions
from websockets.asyncio import client

from dreamgen_jax.serving import groot, openpi

HOST = "127.0.0.1"
U = 4


def finish(task):
  """Runs a coroutine; one that waits for ever fails."""
  return asyncio.run(asyncio.wait_for(task, 30))


class Agent:
  """Plans to stay at the pose it sees; the yaw is what the image shows."""

  def __init__(self, n_obs_steps=1):
    self.robot = registry.find("embodiments", "tabletop_panda").EMBODIMENT
    self.state = "known"
    self.model = types.SimpleNamespace(config=types.SimpleNamespace(
        cameras=("front",), image_size=(8, 8), n_obs_steps=n_obs_steps,
        horizon=U))
    self.delay, self.seen = 0.0, []

    self.action = types.SimpleNamespace(undo=lambda chunk: chunk)

  def prepare(self, observation):
    if observation.pop("instruction") == ["mumble"]:
      raise errors.UserError("What?")
    return observation

  def plan(self, keys, observation):
    time.sleep(self.delay)
    self.seen.append(observation)
    assert len(keys) == len(observation["state"])
    chunk = np.repeat(observation["state"][:, -1:], U, axis=1)
    chunk[..., 3] = observation["image/front"][:, -1].mean(
        axis=(1, 2, 3))[:, None]
    return chunk


@pytest.fixture
def agent():
  return Agent()


def endpoint(agent, batch_size=4):
  return endpoint_lib.Endpoint(agent, batch_size=batch_size)


def observed(value=1.0, shade=7):
  return {"observation/front": np.full((16, 16, 3), shade, np.uint8),
          "observation/state": np.full(5, value), "prompt": "push"}


@contextlib.asynccontextmanager
async def websocket(agent, deadline=5.0, api_key=""):
  """(url, batcher) of an openpi server."""
  ready = endpoint(agent)
  async with batch.Batcher(ready, 4, deadline) as batcher:
    service = openpi.Service(
        ready, batcher, openpi.Reader(("front",)), {"robot": "r"}, api_key)
    async with service.serve(HOST, 0) as listener:
      port = listener.sockets[0].getsockname()[1]
      yield f"{HOST}:{port}", batcher


async def ask(url, request, **settings):
  """The answer to one observation, after the greeting."""
  async with client.connect(f"ws://{url}", **settings) as connection:
    assert codec.OPENPI.unpack(await connection.recv()) == {"robot": "r"}
    await connection.send(request)
    return await connection.recv(), connection


def test_openpi(agent):
  async def run():
    async with websocket(agent) as (url, _), client.connect(
        f"ws://{url}") as connection:
      await connection.recv()
      answers = []
      for value in (1.0, 2.0):
        await connection.send(codec.OPENPI.pack(observed(value)))
        answers.append(codec.OPENPI.unpack(await connection.recv()))
      return answers

  first, second = finish(run())
  assert first["actions"].shape == (U, 5)
  np.testing.assert_allclose(second["actions"][0], [2, 2, 2, 7, 2])
  assert "prev_total_ms" not in first["server_timing"]
  assert second["server_timing"]["prev_total_ms"] > 0
  assert second["policy_timing"]["infer_ms"] > 0
  assert agent.seen[0]["image/front"].shape == (1, 1, 8, 8, 3)


def test_requests_that_come_together_share_a_call(agent):
  agent.delay = 0.2

  async def run():
    async with websocket(agent) as (url, batcher):
      answers = await asyncio.gather(*(
          ask(url, codec.OPENPI.pack(observed(value))) for value in range(5)))
      return [codec.OPENPI.unpack(answer) for answer, _ in answers], list(
          batcher.calls)

  answers, calls = finish(run())
  assert [answer["actions"][0, 0] for answer in answers] == [0, 1, 2, 3, 4]
  assert sum(calls) == 5 and len(calls) <= 3, calls
  assert {len(seen["state"]) for seen in agent.seen} <= {1, 4}


@pytest.mark.parametrize(("request_", "message"), [
    (b"\xc1", "no openpi message"),
    ("text", "not text"),
    (codec.OPENPI.pack([1]), "is a map, not list"),
    (codec.OPENPI.pack({"prompt": "x"}), "lacks 'observation/front'"),
    (codec.OPENPI.pack(observed() | {"observation/state": np.zeros(4)}),
     "must be 5 numbers"),
    (codec.OPENPI.pack(observed(np.nan)), "NaN"),
    (codec.OPENPI.pack(observed() | {"observation/front": np.zeros((3, 4))}),
     "Images of 'front'"),
    (codec.OPENPI.pack(observed() | {"prompt": 3}), "must be text"),
    (codec.OPENPI.pack(observed() | {"prompt": "mumble"}), "What?"),
    (codec.OPENPI.pack({name: leaf for name, leaf in observed().items()
                        if "state" not in name}), "has no state"),
    (codec.OPENPI.pack(observed() | {"observation/front": np.zeros(
        (2, 4, 4, 3), np.uint8)}), "2 steps of history"),
])
def test_mistakes_are_told_in_a_text_frame(agent, request_, message):
  async def run():
    async with websocket(agent) as (url, _):
      answer, connection = await ask(url, request_)
      with pytest.raises(exceptions.ConnectionClosedError) as closed:
        await connection.recv()
      good, _ = await ask(url, codec.OPENPI.pack(observed()))
      return answer, closed.value.rcvd.code, good

  answer, code, good = finish(run())
  assert isinstance(answer, str) and message in answer
  assert code == 1011
  assert isinstance(good, bytes)  # the server lives


def test_a_deadline_ends_a_request(agent):
  agent.delay = 0.3

  async def run():
    async with websocket(agent, deadline=0.05) as (url, _):
      return (await ask(url, codec.OPENPI.pack(observed())))[0]

  assert "deadline of 0.05 s" in finish(run())


def test_our_own_fault_is_not_told_to_clients(agent, capsys):
  agent.robot = None

  async def run():
    async with websocket(agent) as (url, _):
      return (await ask(url, codec.OPENPI.pack(observed())))[0]

  assert finish(run()) == "The server failed; its log says why."
  assert "AttributeError" in capsys.readouterr().err


def test_health_and_key(agent):
  def fetch(url):
    with urllib.request.urlopen(url) as reply:
      return reply.status, reply.read()

  async def run():
    async with websocket(agent, api_key="secret") as (url, _):
      health = await asyncio.to_thread(fetch, f"http://{url}/healthz")
      with pytest.raises(exceptions.InvalidStatus) as refused:
        await ask(url, b"")
      answer, _ = await ask(
          url, codec.OPENPI.pack(observed()),
          additional_headers={"Authorization": "Api-Key secret"})
      return health, refused.value.response.status_code, answer

  health, refused, answer = finish(run())
  assert health == (200, b"OK\n")
  assert refused == 401
  assert "actions" in codec.OPENPI.unpack(answer)


def test_layouts():
  reader = openpi.Reader(("top",), "aloha")
  found = reader({"images": {"cam_high": np.zeros((3, 6, 8))},
                  "state": np.zeros(14), "prompt": "x"},
                 types.SimpleNamespace(observation=lambda *seen: seen))
  assert found[0]["top"].shape == (6, 8, 3)
  assert found[0]["top"].dtype == np.uint8
  with pytest.raises(errors.ConfigError, match="have: droid, libero, aloha"):
    openpi.Reader(("top",), "x")
  with pytest.raises(errors.ConfigError, match="has 2"):
    openpi.Reader(("a", "b", "c"), "droid")


# --- GR00T -------------------------------------------------------------------
def groot_data(value=1.0, rows=()):
  rows = (*rows, 1)
  return {
      "video.front": np.full((*rows, 16, 16, 3), 7, np.uint8),
      "state.eef_position": np.full((*rows, 3), value),
      "state.eef_yaw": np.full((*rows, 1), value),
      "state.gripper_opening": np.full((*rows, 1), value),
      groot.LANGUAGE: ["push"]}


async def exchange(agent, *messages, api_key=""):
  """Answers of a server to messages, each sent by a client of its own."""
  ready, port = endpoint(agent), asyncio.get_running_loop().create_future()
  async with batch.Batcher(ready, 4, 5.0) as batcher:
    task = asyncio.create_task(groot.Service(
        ready, batcher, api_key).serve(HOST, 0, port))
    address = f"tcp://{HOST}:{await port}"

    async def talk(context, message):
      with context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(address)
        await socket.send(message)
        return codec.GROOT.unpack(await socket.recv())

    with zmq.asyncio.Context() as context:
      answers = await asyncio.gather(*(talk(context, m) for m in messages))
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
      await task
    return answers, list(batcher.calls)


def test_groot(agent):
  pack = codec.GROOT.pack
  (ping, config, old, new, many), _ = finish(exchange(
      agent, pack({"endpoint": "ping"}),
      pack({"endpoint": "get_modality_config"}),
      pack({"endpoint": "get_action", "data": groot_data(2.0)}),
      pack({"data": {"observation": groot_data(), "options": None}}),
      pack({"data": groot_data(rows=(3,))})))
  assert ping["status"] == "ok"
  assert config["video"].modality_keys == ("video.front",)
  assert config["action"].delta_indices == (0, 1, 2, 3)
  assert {name: leaf.shape for name, leaf in old.items()} == {
      "action.eef_position": (U, 3), "action.eef_yaw": (U, 1),
      "action.gripper_close": (U, 1)}
  np.testing.assert_allclose(old["action.eef_position"], 2)
  assert new[1] == {} and new[0].keys() == old.keys()
  assert many["action.eef_yaw"].shape == (3, U, 1)


def test_groots_clients_share_calls(agent):
  agent.delay = 0.2
  answers, calls = finish(exchange(agent, *(
      codec.GROOT.pack({"data": groot_data(float(i))}) for i in range(5))))
  assert [a["action.eef_position"][0, 0] for a in answers] == [0, 1, 2, 3, 4]
  assert len(calls) <= 3


def test_groots_mistakes(agent):
  pack = codec.GROOT.pack
  data = groot_data()
  missing = {name: leaf for name, leaf in data.items() if "yaw" not in name}
  cases = {
      b"\xc1": "no groot message",
      pack(3): "is a map",
      pack({"endpoint": "kill"}): "Unknown endpoint",
      pack({"data": None}): "needs an observation",
      pack({"data": missing}): "lacks state.eef_yaw",
      pack({"data": data | {"state.eef_yaw": np.zeros((1, 2))}}):
          "must have 1 values",
      pack({"data": {k: v for k, v in data.items() if "video" not in k}}):
          "lacks the camera 'front'",
      pack({"data": {k: v for k, v in data.items() if "human" not in k}}):
          "no instruction",
      pack({"data": groot_data(rows=(2,)) | {"state.eef_yaw": np.zeros(
          (3, 1, 1))}}): "number of rows",
      pack({"data": data | {"video.front": np.array(1)}}): "Images of 'front'",
      pack({"data": data | {"state.eef_yaw": np.array(1)}}): "have 1 values",
  }
  answers, _ = finish(exchange(agent, *cases))
  for answer, message in zip(answers, cases.values(), strict=True):
    assert message in answer["error"]


def test_groots_token(agent):
  pack = codec.GROOT.pack
  (refused, answered), _ = finish(exchange(
      agent, pack({"endpoint": "ping"}),
      pack({"endpoint": "ping", "api_token": "secret"}), api_key="secret"))
  assert "Unauthorized" in refused["error"]
  assert answered["status"] == "ok"


# --- the program -------------------------------------------------------------
@pytest.mark.parametrize(("options", "message"), [
    ([], "No checkpoint; give --checkpoint"),
    (["--checkpoint=x"], "Unknown protocol"),
    (["--protocol=groot", "--checkpoint=x", "--layout=droid"], "goes with"),
    (["--protocol=groot", "--checkpoint=x", "--deadline=0"], "positive"),
    (["--protocol=groot", "--checkpoint=x", "--api_key_file=x"],
     "cannot be read"),
    (["--protocol=groot", "--checkpoint=absent"], "No checkpoint at"),
])
def test_mistakes_on_the_command_line(capsys, options, message):
  assert serve.main(["serve", *options]) == 2
  assert message in capsys.readouterr().err


def test_openpis_own_client(agent):
  """DREAMGEN_OPENPI_PYTHON is a Python with openpi-client."""
  python = os.environ.get("DREAMGEN_OPENPI_PYTHON")
  if not python:
    pytest.skip("DREAMGEN_OPENPI_PYTHON names no Python with openpi-client")
  program = """
import sys, numpy as np
from openpi_client import websocket_client_policy as policy
client = policy.WebsocketClientPolicy("127.0.0.1", int(sys.argv[1]), "key")
print(client.get_server_metadata())
for value in (1.0, 2.0):
  answer = client.infer({
      "observation/front": np.zeros((16, 16, 3), np.uint8),
      "observation/state": np.full(5, value), "prompt": "push"})
  print(answer["actions"].shape, answer["actions"][0, 0])
"""

  async def run():
    async with websocket(agent, api_key="key") as (url, _):
      return await asyncio.to_thread(
          subprocess.run, [python, "-c", program, url.partition(":")[2]],
          capture_output=True, text=True, timeout=60)

  done = finish(run())
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines() == [
      "{'robot': 'r'}", "(4, 5) 1.0", "(4, 5) 2.0"]
