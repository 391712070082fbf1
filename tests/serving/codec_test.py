"""Messages, byte for byte as the original programs write them."""

import pathlib

import numpy as np
import pytest

from dreamgen_jax import errors
from dreamgen_jax.serving import codec
from tests import golden_cases

FLAVOURS = {"openpi": codec.OPENPI, "groot": codec.GROOT}


@pytest.fixture(scope="module")
def wire():
  """Name -> bytes of the messages that the originals wrote."""
  for folder in golden_cases.folders():
    if (folder / "wire").is_dir():
      return {path.name: path.read_bytes()
              for path in pathlib.Path(folder, "wire").iterdir()}
  pytest.skip("golden case 'wire' is not on this machine")


def flavour(name):
  return FLAVOURS[name.partition("_")[0]]


def test_every_message_is_read_and_written_as_the_originals_do(wire):
  names = [name for name in wire if name.endswith(".msgpack")]
  assert len(names) == 9
  for name in names:
    value = flavour(name).unpack(wire[name])
    assert flavour(name).pack(value) == wire[name], name


def test_values(wire, golden):
  _, files = golden("wire")
  (tensors,) = files.values()
  observation = codec.OPENPI.unpack(wire["openpi_obs.msgpack"])
  assert observation["prompt"] == "pick up the fork"
  assert observation["flag"] == np.float32(0.5)
  held = [observation["observation/image"], observation["observation/state"]]
  request = codec.GROOT.unpack(wire["groot_n16_request.msgpack"])
  assert request["data"]["options"] is None
  held += list(request["data"]["observation"].values())[:2]
  known = [array.tobytes() for array in tensors.values()]
  for array in held:
    assert array.tobytes() in known
    assert not array.flags.writeable


def test_pickles_are_refused(wire):
  for name in ("groot_n1_request.torchsave", "groot_n1_response.torchsave"):
    with pytest.raises(errors.DataError, match="no groot message"):
      codec.GROOT.unpack(wire[name])


@pytest.mark.parametrize("value", [
    np.zeros((2, 0, 3), np.int16), np.array(3.5), np.array(["a", "bc"]),
    np.asfortranarray(np.arange(6.0).reshape(2, 3))])
@pytest.mark.parametrize("name", FLAVOURS)
def test_arrays_come_back(name, value):
  found = FLAVOURS[name].unpack(FLAVOURS[name].pack({"x": value}))["x"]
  np.testing.assert_array_equal(found, value)
  assert found.dtype == value.dtype


def test_modalities_come_back():
  value = {"video": codec.Modality((-1, 0), ("video.front",))}
  assert codec.GROOT.unpack(codec.GROOT.pack(value)) == value


@pytest.mark.parametrize("mark", [
    {b"__ndarray__": True, b"data": b"", b"dtype": "|O8", b"shape": [0]},
    {b"__ndarray__": True, b"data": b"ab", b"dtype": "|u1", b"shape": [-1]},
    {b"__ndarray__": True, b"data": b"ab", b"dtype": "|u1", b"shape": [3]},
    {b"__ndarray__": True, b"data": b"", b"dtype": "(9,)f4", b"shape": [0]},
    {b"__ndarray__": True},
    {b"__npgeneric__": True, b"data": "x", b"dtype": "<f4"},
])
def test_malformed_arrays(mark):
  with pytest.raises(errors.DataError):
    codec.OPENPI.unpack(codec.OPENPI.pack({"x": mark}))


def test_objects_are_not_sent():
  for value in (object(), np.array([None])):
    with pytest.raises((TypeError, ValueError)):
      codec.OPENPI.pack({"x": value})
    with pytest.raises((TypeError, ValueError)):
      codec.GROOT.pack({"x": value})


def test_no_bytes_do_more_than_raise_a_data_error(wire):
  """12,000 inputs: noise, and the originals' messages with bytes changed."""
  random = np.random.default_rng(0)
  messages = [np.frombuffer(content, np.uint8)
              for name, content in wire.items() if name.endswith("msgpack")]
  outcome = {True: 0, False: 0}
  for number in range(12_000):
    if number % 4 == 0:
      message = random.integers(0, 256, random.integers(0, 64), np.uint8)
    else:
      message = messages[number % len(messages)].copy()
      places = random.integers(0, len(message), random.integers(1, 6))
      message[places] = random.integers(0, 256, len(places))
      message = message[:random.integers(1, 2 * len(message))]
    for one in FLAVOURS.values():
      try:
        one.unpack(message.tobytes())
        outcome[True] += 1
      except errors.DataError:
        outcome[False] += 1
  assert min(outcome.values()) > 500, outcome
