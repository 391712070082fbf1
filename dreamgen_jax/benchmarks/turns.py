"""Two processes that take turns at the same tasks: a fair race on one machine.

Each side is a process of its own, so its peak memory is its own, and whatever
else the machine does falls on both. Knows nothing but the standard library,
so that a peer can run in another environment.
"""

import json
import os
import pathlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


def serve(tasks: Mapping[str, Callable[[], float]]) -> None:
  """One side: runs the tasks that stdin names, answers in JSON lines.

  A task returns a number that shows what it computed. Its CPU time begins
  where the one before ended, so that what threads and processes of its own
  prepare meanwhile counts.
  """
  answers = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)  # whatever a library prints is no answer
  spent = _cpu_seconds()
  for line in sys.stdin:
    begin = time.perf_counter()
    value = float(tasks[line.strip()]())  # waits until it is computed
    seconds, before, spent = (
        time.perf_counter() - begin, spent, _cpu_seconds())
    answers.write(json.dumps({
        "seconds": seconds, "cpu": spent - before, "value": value,
        "peak_mib": _peak_mib()}) + "\n")
    answers.flush()


def _cpu_seconds() -> float:
  """Of this process and all that it started, also those that run still."""
  ended = resource.getrusage(resource.RUSAGE_CHILDREN)
  total = time.process_time() + ended.ru_utime + ended.ru_stime
  parents, ticks = {}, {}
  for file in pathlib.Path("/proc").glob("[0-9]*/stat"):
    try:
      fields = file.read_text().rpartition(")")[2].split()
    except OSError:
      continue  # it has just ended
    parents[int(file.parent.name)] = int(fields[1])
    ticks[int(file.parent.name)] = int(fields[11]) + int(fields[12])
  family = [os.getpid()]
  for parent in family:
    family += [pid for pid, above in parents.items() if above == parent]
  return total + sum(ticks[pid] for pid in family[1:]) / os.sysconf(
      "SC_CLK_TCK")


def _peak_mib() -> float:
  """Of this process; the system's own count goes on from the parent's."""
  try:
    with open("/proc/self/status") as file:
      lines = dict(line.split(":", 1) for line in file)
    return int(lines["VmHWM"].split()[0]) / 1024
  except (OSError, KeyError):
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class ByName(dict):
  """Tasks that one function does, told by the task's own words."""

  def __init__(self, run: Callable[[str], float]):
    """`run` is given the words."""
    super().__init__()
    self._run = run

  def __missing__(self, task: str) -> Callable[[], float]:
    return lambda: self._run(task)


class Side:
  """A process that serves tasks."""

  def __init__(self, command: Sequence[str]):
    """Starts it; its errors go to our stderr."""
    self._command = list(command)
    self._process = subprocess.Popen(
        self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True)

  def run(self, task: str) -> dict[str, Any]:
    """One task: seconds, cpu seconds, value, the process's peak_mib so far.

    Raises:
      RuntimeError: the process has died.
    """
    try:
      self._process.stdin.write(task + "\n")
      self._process.stdin.flush()
      answer = self._process.stdout.readline()
    except BrokenPipeError:
      answer = ""
    if not answer:
      raise RuntimeError(f"{' '.join(self._command)} ended early.")
    return json.loads(answer)

  def close(self) -> None:
    """Ends it."""
    self._process.stdin.close()
    self._process.wait()
    self._process.stdout.close()


def race(sides: Mapping[str, Side], task: str, rounds: int,
         by: str = "seconds") -> dict[str, dict[str, float]]:
  """Each side's fastest round after one that does not count (compilation).

  `by` what it is the fastest: "seconds" or, where other work takes cores away,
  "cpu". Fastest, because other work on the machine only ever adds to a round.
  """
  found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
  for _ in range(rounds + 1):
    for name, side in sides.items():
      found[name].append(side.run(task))
  return {name: min(rows[1:], key=lambda row: row[by])
          | {"first": rows[0]["value"]} for name, rows in found.items()}


def duel(commands: Mapping[str, Sequence[str]], tasks: Iterable[str],
         rounds: int, by: str = "seconds") -> None:
  """Races two sides over tasks, and prints every figure and the ratio.

  Args:
    commands: name -> command line; ours first, the peer's second.
    tasks, rounds, by: see `race`.
  """
  sides = {name: Side(command) for name, command in commands.items()}
  print("task     side           seconds  cpu secs  peak MiB      value")
  for task in tasks:
    rows = race(sides, task, rounds, by)
    for side, row in rows.items():
      print(f"{task:8} {side:13} {row['seconds']:8.3f} {row['cpu']:9.3f} "
            f"{row['peak_mib']:9.0f} {row['first']:10.6f}", flush=True)
    ours, peer = (row[by] for row in rows.values())
    print(f"{task:8} {peer / ours:.2f} times as fast", flush=True)
  for side in sides.values():
    side.close()
