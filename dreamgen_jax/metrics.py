"""Scalars of a run: a JSON-lines file that survives being killed."""

import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamgen_jax import hosts


class History:
  """Append-only scalars by step; host 0 writes them.

  After a restart the lines of steps that will run again are dropped, so that
  an interrupted run leaves the same file as an uninterrupted one.

  Attributes:
    rows: of all steps so far, on every host.
  """

  def __init__(self, path: pathlib.Path, start_step: int):
    self._path = path
    self.rows = [row for row in read(path) if row["step"] <= start_step]
    hosts.barrier()  # all have read
    if hosts.first():
      partial = path.with_name(path.name + ".partial")
      partial.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
      partial.replace(path)

  def append(self, step: int, scalars: Mapping[str, float]) -> None:
    """A row {"step": step, **scalars}."""
    row = {"step": step} | {k: float(v) for k, v in scalars.items()}
    self.rows.append(row)
    if hosts.first():
      with self._path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def read(path: pathlib.Path) -> list[dict[str, Any]]:
  """Rows of a history; a line cut off by a crash is dropped."""
  if not path.exists():
    return []
  rows = []
  for line in path.read_text().splitlines():
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError:
      break
  return rows


class Progress:
  """Prints rate and time left, at most every few seconds; host 0's."""

  def __init__(self, what: str, total: int, unit: str, start: int = 0,
               every_seconds: float = 15.0):
    self._what, self._total, self._unit = what, total, unit
    self._start, self._every = start, every_seconds
    self._done = start
    self._begin = self._last = time.monotonic()

  def advance(self, count: int = 1) -> None:
    """`count` more are done."""
    self.update(self._done + count)

  def update(self, done: int, note: str = "") -> None:
    """`done` are done in all."""
    self._done = done
    now = time.monotonic()
    if not hosts.first():
      return
    if now - self._last < self._every and done < self._total:
      return
    self._last = now
    rate = (done - self._start) / max(now - self._begin, 1e-9)
    left = (self._total - done) / max(rate, 1e-9)
    print(
        f"[{self._what}] {done}/{self._total} {self._unit}s  "
        f"{rate:.1f} {self._unit}s/s  {left:.0f} s left  {note}".rstrip(),
        flush=True)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
  """Peak signal to noise ratio in dB of two arrays of values in 0..255."""
  error = np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2)
  return float(10 * np.log10(255.0**2 / max(error, 1e-10)))
