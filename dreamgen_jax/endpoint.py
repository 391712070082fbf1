"""A client of HTTP services that speak OpenAI's protocol.

Keys come from an environment variable that the config names, so that no config
and no result holds one. Protocol: platform.openai.com/docs/api-reference.
"""

import base64
import dataclasses
import io
import json
import os
import time
import urllib.error
import urllib.request
import uuid
from typing import Any

import numpy as np
import PIL
from PIL import Image

from dreamgen_jax import errors

_RETRIED = (429, 500, 502, 503, 504)


@dataclasses.dataclass(frozen=True)
class Endpoint:
  """One service.

  Attributes:
    url: up to the version, such as "http://localhost:8000/v1".
    model: what it is asked for.
    key_variable: environment variable that holds its key; "" sends none.
    timeout: seconds of one try.
    tries: how often a busy or broken service is asked.
    pause: seconds before the second try; doubled before each further one.
  """

  url: str
  model: str
  key_variable: str = ""
  timeout: float = 60.0
  tries: int = 4
  pause: float = 1.0

  def chat(self, text: str, **fields: Any) -> str:
    """The answer to one message.

    Args:
      text: of the user.
      **fields: of the request, such as temperature or seed.

    Raises:
      DataError: the service cannot be reached, or answers otherwise.
    """
    answer = self._post("chat/completions", "application/json", json.dumps({
        "model": self.model, "messages": [{"role": "user", "content": text}],
        **fields}).encode())
    return self._said(answer, "choices", 0, "message", "content")

  def edit(self, image: np.ndarray, text: str) -> np.ndarray:
    """An image u8[h,w,3], edited as the text says, at its own size.

    Raises:
      DataError: see `chat`; or what comes back is no image.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    border = uuid.uuid4().hex
    parts = [
        f'--{border}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        f"{value}\r\n".encode()
        for name, value in (("model", self.model), ("prompt", text),
                            ("response_format", "b64_json"))]
    parts += [
        f'--{border}\r\nContent-Disposition: form-data; name="image"; '
        'filename="frame.png"\r\nContent-Type: image/png\r\n\r\n'.encode(),
        buffer.getvalue(), f"\r\n--{border}--\r\n".encode()]
    answer = self._post(
        "images/edits", f"multipart/form-data; boundary={border}",
        b"".join(parts))
    data = self._said(answer, "data", 0, "b64_json")
    try:
      found = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
      return np.asarray(found.resize(image.shape[1::-1]))  # h w 3
    except (ValueError, OSError, PIL.UnidentifiedImageError) as error:
      raise errors.DataError(f"{self.url} sent no image: {error}.") from error

  def _post(self, path: str, kind: str, body: bytes) -> Any:
    headers = {"Content-Type": kind}
    if self.key_variable:
      if self.key_variable not in os.environ:
        raise errors.ConfigError(
            f"The environment has no variable {self.key_variable}, which is to "
            f"hold the key of {self.url}.")
      headers["Authorization"] = f"Bearer {os.environ[self.key_variable]}"
    url = f"{self.url.rstrip('/')}/{path}"
    reason = ""
    for turn in range(self.tries):
      if turn:
        time.sleep(self.pause * 2 ** (turn - 1))
      try:
        with urllib.request.urlopen(
            urllib.request.Request(url, body, headers),
            timeout=self.timeout) as answer:
          return json.loads(answer.read())
      except urllib.error.HTTPError as error:
        reason = f"{error.code} {error.reason}"
        if error.code not in _RETRIED:
          break
      except (urllib.error.URLError, OSError) as error:
        reason = str(getattr(error, "reason", error))
      except ValueError as error:
        raise errors.DataError(f"{url} sent no JSON: {error}.") from error
    raise errors.DataError(f"{url} does not answer: {reason}.")

  def _said(self, answer: Any, *path: str | int) -> str:
    for part in path:
      try:
        answer = answer[part]
      except (LookupError, TypeError) as error:
        raise errors.DataError(
            f"The answer of {self.url} lacks {part!r}; it begins "
            f"{json.dumps(answer)[:80]}.") from error
    return str(answer)
