"""What the index of many episodes costs: bytes, and seconds to open and split.

  python -m dreamgen_jax.benchmarks.index_memory [--episodes=10000000]

Synthetic indices of episodes of two lengths, as datasets of this package and
as somebody else's have them: opened from disk, split, cut into windows, and
shuffled by Grain, in a process of its own each. Memory is what the process
holds more than before (VmRSS), after each step.
"""

import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import grain
import numpy as np

from dreamgen_jax import options
from dreamgen_jax.data import scan, source, table

HELP = {"episodes": (10_000_000, "rows of each index"),
        "kind": "measure this one only: native or foreign",
        "file": "its index"}
LENGTHS = (100, 10_000)  # steps of an episode
_DRAWS = 1000


def write(file: pathlib.Path, kind: str, count: int, length: int) -> None:
  """An index of `count` episodes of about `length` steps."""
  rng = np.random.default_rng(0)
  steps = rng.integers(length, 2 * length, count, dtype=np.int32)
  if kind == "foreign":
    number = np.arange(count)
    columns = {
        "shard": number // 1000, "record": number % 1000, "place": number,
        "size": steps, "first": np.zeros(count), "steps": steps,
        "hash": rng.integers(0, 2**63, count), "success": np.ones(count)}
    np.savez(file, **{name: columns[name].astype(typecode)
                      for name, typecode in scan.COLUMNS.items()})
    return
  one = np.ones(count, np.int8)
  np.savez(
      file, id=np.char.add(b"panda-pick_place-wood-",
                           np.char.zfill(np.arange(count).astype("S8"), 8)),
      steps=steps, frames=steps, success=one, kept=one.astype(bool),
      has_state=one.astype(bool), has_action=one.astype(bool),
      kind=np.full(count, b"sim"), embodiment=np.full(count, b"franka"),
      video_hz=np.full(count, 15.0), control_hz=np.full(count, 15.0))


def measure(kind: str, file: pathlib.Path) -> dict[str, float]:
  """Seconds and bytes per episode of each step."""
  found: dict[str, float] = {}
  before = _resident()

  def step(name: str, work: Callable[[], Any]) -> Any:
    begin = time.perf_counter()
    result = work()
    found[f"{name}, s"] = time.perf_counter() - begin
    return result

  def load() -> dict[str, np.ndarray]:
    with np.load(file) as held:
      return {name: held[name] for name in held}

  if kind == "foreign":
    rows = step("open", load)
    count = len(rows["steps"])
    found["open, bytes"] = (_resident() - before) / count
    lengths = step("split", lambda: source.part(rows, "train", 0.05))["steps"]
  else:
    rows = step("open", lambda: table.compact(load()))
    count = len(rows["steps"])
    found["open, bytes"] = (_resident() - before) / count
    assert table.Names(rows["id"])[count - 1].endswith(f"{count - 1:08d}")
    lengths = step("split", lambda: np.where(
        np.arange(count) % 20 > 0, rows["frames"], 0))
  starts = step("windows", lambda: table.Starts(lengths - 17, 1))
  found["windows, millions"] = len(starts) / 1e6
  found["all, bytes"] = (_resident() - before) / count
  shuffled = step("shuffle", lambda: grain.MapDataset.source(
      starts).seed(0).shuffle().repeat(10**3))
  drawn = step("draws", lambda: [shuffled[i] for i in range(_DRAWS)])
  found["draws, s"] /= _DRAWS
  assert len({tuple(row) for row in drawn}) > 0.99 * _DRAWS
  return found


@options.program(__doc__, HELP)
def main(given: Any) -> None:
  """Runs the program."""
  if given.kind:
    for name, value in measure(given.kind, pathlib.Path(given.file)).items():
      print(f"{name}\t{value:.4g}")
    return
  for kind in ("native", "foreign"):
    for length in LENGTHS:
      with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "index.npz"
        write(file, kind, given.episodes, length)
        said = subprocess.run(
            [sys.executable, "-m", "dreamgen_jax.benchmarks.index_memory",
             f"--kind={kind}", f"--file={file}"],
            check=True, capture_output=True, text=True).stdout
      print(f"{kind}, {given.episodes:,} episodes of {length:,} to "
            f"{2 * length:,} steps: "
            + ", ".join(line.replace("\t", " ")
                        for line in said.splitlines()), flush=True)


def _resident() -> int:
  """Bytes of memory that this process holds."""
  pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
  return int(pages) * 4096


if __name__ == "__main__":
  sys.exit(main())
