"""Tests of the client against a server of our own, on this machine."""

import base64
import http.server
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

from dreamgen_jax import endpoint, errors


class Handler(http.server.BaseHTTPRequestHandler):
  """Answers what the test has put into `replies`; notes what it was asked."""

  replies: list
  asked: list

  def do_POST(self):
    body = self.rfile.read(int(self.headers["Content-Length"]))
    self.asked.append((self.path, dict(self.headers), body))
    code, reply = self.replies.pop(0)
    self.send_response(code)
    self.end_headers()
    self.wfile.write(reply if isinstance(reply, bytes)
                     else json.dumps(reply).encode())

  def log_message(self, *unused):
    pass


@pytest.fixture
def server():
  handler = type("Handler", (Handler,), {"replies": [], "asked": []})
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
    threading.Thread(target=running.serve_forever, daemon=True).start()
    handler.url = f"http://127.0.0.1:{running.server_port}/v1"
    yield handler
    running.shutdown()


def said(text):
  return {"choices": [{"message": {"content": text}}]}


def service(server, **more):
  return endpoint.Endpoint(
      **dict(url=server.url, model="m", pause=0.01, timeout=5.0) | more)


def test_chat(server, monkeypatch):
  monkeypatch.setenv("THE_KEY", "secret")
  server.replies += [(503, {}), (429, {}), (200, said("push the cup"))]
  found = service(server, key_variable="THE_KEY").chat("hello", seed=3)
  assert found == "push the cup" and len(server.asked) == 3
  path, headers, body = server.asked[-1]
  assert path == "/v1/chat/completions"
  assert headers["Authorization"] == "Bearer secret"
  assert json.loads(body) == {
      "model": "m", "seed": 3,
      "messages": [{"role": "user", "content": "hello"}]}


def test_edit(server):
  frame = np.full((6, 8, 3), 100, np.uint8)
  buffer = io.BytesIO()
  Image.fromarray(np.full((12, 16, 3), 200, np.uint8)).save(buffer, "PNG")
  server.replies.append((200, {"data": [{
      "b64_json": base64.b64encode(buffer.getvalue()).decode()}]}))
  found = service(server).edit(frame, "make it night")
  assert found.shape == frame.shape and (found == 200).all()
  path, headers, body = server.asked[0]
  assert path == "/v1/images/edits" and "Authorization" not in headers
  assert b"make it night" in body and b"\x89PNG" in body
  server.replies.append((200, {"data": [{"b64_json": "bm8="}]}))
  with pytest.raises(errors.DataError, match="sent no image"):
    service(server).edit(frame, "again")


@pytest.mark.parametrize("replies, words", [
    ([(401, {})], "does not answer: 401"),
    ([(500, {})] * 4, "does not answer: 500"),
    ([(200, b"<html>")], "sent no JSON"),
    ([(200, {"error": "no"})], "lacks 'choices'; it begins {\"error\""),
])
def test_answers_that_are_none(server, replies, words):
  server.replies += replies
  with pytest.raises(errors.DataError, match=words):
    service(server).chat("hello")
  assert not server.replies  # tried as often as it makes sense


def test_nobody_there_and_no_key(server, monkeypatch):
  monkeypatch.delenv("NO_KEY", raising=False)
  with pytest.raises(errors.ConfigError, match="no variable NO_KEY"):
    service(server, key_variable="NO_KEY").chat("hello")
  with pytest.raises(errors.DataError, match="does not answer"):
    service(server, url="http://127.0.0.1:9/v1", tries=1).chat("hello")
