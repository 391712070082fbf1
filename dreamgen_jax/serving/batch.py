"""Requests that come at the same time share one call of the policy.

While the policy computes, requests gather; when it is done, the next call takes
all that wait, so that batching delays nobody.
"""

import asyncio
import collections
from collections.abc import Callable, Sequence
from typing import Any

from dreamgen_jax import errors


class Batcher:
  """Answers single requests by calls that take several.

  Attributes:
    calls: sizes of the calls made, the last thousand.
  """

  def __init__(self, act: Callable[[Sequence[Any]], Sequence[Any]],
               batch_size: int, deadline: float):
    """As a context, answers requests while it is entered.

    Args:
      act: up to batch_size requests -> as many answers; runs in a thread.
      batch_size: of a call.
      deadline: seconds that a request may take.
    """
    self._act, self._size, self._deadline = act, batch_size, deadline
    self._waiting: collections.deque = collections.deque()
    self._wake = asyncio.Event()
    self.calls: collections.deque = collections.deque(maxlen=1000)

  async def __aenter__(self) -> "Batcher":
    self._worker = asyncio.create_task(self._work())
    return self

  async def __aexit__(self, *unused: Any) -> None:
    self._worker.cancel()

  async def __call__(self, request: Any) -> Any:
    """The answer to one request.

    Raises:
      UserError: the deadline has passed.
      Exception: whatever `act` raised.
    """
    answer = asyncio.get_running_loop().create_future()
    self._waiting.append((request, answer))
    self._wake.set()
    try:
      return await asyncio.wait_for(answer, self._deadline)
    except TimeoutError as error:  # the future is cancelled, and skipped below
      raise errors.UserError(
          f"No answer within the deadline of {self._deadline:g} s; send fewer "
          "requests at once, or give --deadline more.") from error

  async def _work(self) -> None:
    while True:
      await self._wake.wait()
      self._wake.clear()
      while taken := self._take():
        self.calls.append(len(taken))
        try:
          found = await asyncio.to_thread(
              self._act, [request for request, _ in taken])
        except Exception as error:
          found = [error] * len(taken)
        for (_, answer), value in zip(taken, found, strict=True):
          if answer.done():
            continue
          if isinstance(value, Exception):
            answer.set_exception(value)
          else:
            answer.set_result(value)

  def _take(self) -> list[tuple[Any, asyncio.Future]]:
    """The next requests that still wait."""
    taken: list[tuple[Any, asyncio.Future]] = []
    while self._waiting and len(taken) < self._size:
      request, answer = self._waiting.popleft()
      if not answer.done():
        taken.append((request, answer))
    return taken
