"""How much memory `convert` takes, on a checkpoint of any size.

  python tools/convert_memory.py --family=wan --preset=wan2_1_i2v_14b_480p
      --folder=DIR [--parts=transformer,vae] [--dtype=bfloat16] [--keep]

Makes a folder like the released one: true headers, float32 tensors that are
holes in sparse files but for one mark each, so that it takes no space. Converts
it, while a thread reads how much anonymous memory the process holds (pages of
mapped files are the kernel's to drop). Checks every mark, and deletes both
folders.
"""

import argparse
import json
import math
import pathlib
import shutil
import threading
import time

import jax
import numpy as np

from dreamgen_jax import folder as folder_lib
from dreamgen_jax import registry, safetensors, weights


def marks(names):
  """Tensor -> a number that tells it from others, and is exact in bfloat16."""
  return {name: 1.0 + number % 251 for number, name in enumerate(names)}


def write_sparse(folder, stem, shapes):
  """Shards of float32 tensors, of which only the first element is written."""
  folder.mkdir(parents=True)
  shards, size = [[]], 0
  for name, shape in shapes.items():
    size += 4 * math.prod(shape)
    if size > safetensors.SHARD and shards[-1]:
      shards.append([])
      size = 4 * math.prod(shape)
    shards[-1].append(name)
  files, number = {}, marks(shapes)
  for index, names in enumerate(shards, 1):
    header, offset = {}, 0
    for name in names:
      end = offset + 4 * math.prod(shapes[name])
      header[name] = {"dtype": "F32", "shape": list(shapes[name]),
                      "data_offsets": [offset, end]}
      offset = end
    text = json.dumps(header).encode()
    path = folder / f"{stem}-{index:05}-of-{len(shards):05}.safetensors"
    with path.open("wb") as file:
      file.write(len(text).to_bytes(8, "little") + text)
      start = file.tell()
      file.truncate(start + offset)
      for name in names:
        file.seek(start + header[name]["data_offsets"][0])
        file.write(np.float32(number[name]).tobytes())
    files |= dict.fromkeys(names, path.name)
  (folder / f"{stem}.safetensors.index.json").write_text(
      json.dumps({"weight_map": files}))


def make(folder, family, config, chosen):
  """The released-looking folder; {part: {tensor: shape}}."""
  known = family.parts(config)
  shapes = jax.eval_shape(family.model(config).init, jax.random.key(0))
  made = {}
  for part in chosen or known:
    about = known[part]
    released = weights.export(shapes[part], about.names["diffusers"])
    made[part] = {name: leaf.shape for name, leaf in released.items()}
    write_sparse(folder / about.folder, about.stem, made[part])
    (folder / about.folder / "config.json").write_text(json.dumps(about.facts))
  return made


def anonymous():
  """Bytes of memory that no file stands for."""
  for line in pathlib.Path("/proc/self/status").read_text().splitlines():
    if line.startswith("RssAnon"):
      return 1024 * int(line.split()[1])
  raise OSError("the kernel does not say RssAnon")


class Peak(threading.Thread):
  """Watches memory until it is told to stop."""

  def __init__(self):
    super().__init__(daemon=True)
    self.start_bytes = self.peak = anonymous()
    self.done = threading.Event()
    self.start()

  def run(self):
    while not self.done.wait(0.005):
      self.peak = max(self.peak, anonymous())

  def stop(self):
    self.done.set()
    self.join()
    return self.peak


def check(folder, family, config, made):
  """Compares every mark; reads one element of each tensor."""
  for part, shapes in made.items():
    found = folder_lib.open_tensors(folder / family.parts(config)[part].folder)
    assert found.keys() == shapes.keys(), part
    for name, mark in marks(shapes).items():
      assert float(found[name].flat[0]) == mark, name


def measure(folder, family, config, chosen=None, dtype=None, keep=False):
  """Converts a synthetic checkpoint; returns figures in bytes and seconds."""
  source, output = folder / "sparse", folder / "converted"
  try:
    made = make(source, family, config, chosen)
    shapes = [shape for part in made.values() for shape in part.values()]
    begin, peak = time.monotonic(), Peak()
    written = family.convert(source, output, config, chosen, dtype=dtype)
    seconds = time.monotonic() - begin
    top = peak.stop()
    check(output, family, config, made)
    return {"tensors": len(shapes),
            "read": 4 * sum(map(math.prod, shapes)), "written": written,
            "largest tensor": 4 * max(map(math.prod, shapes)),
            "RssAnon before": peak.start_bytes, "RssAnon peak": top,
            "growth": top - peak.start_bytes, "seconds": seconds}
  finally:
    if not keep:
      shutil.rmtree(source, ignore_errors=True)
      shutil.rmtree(output, ignore_errors=True)


def main():
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  for name in ("family", "preset", "folder"):
    parser.add_argument(f"--{name}", required=True)
  parser.add_argument("--parts")
  parser.add_argument("--dtype")
  parser.add_argument("--keep", action="store_true")
  given = parser.parse_args()
  module = registry.find("world_models", given.family)
  family = module.load.__self__
  figures = measure(
      pathlib.Path(given.folder), family, module.PRESETS[given.preset],
      given.parts and given.parts.split(","), given.dtype, given.keep)
  for name, value in figures.items():
    unit = "" if name == "tensors" else " s" if name == "seconds" else " MB"
    print(f"{name}: {value / (1e6 if unit == ' MB' else 1):,.1f}{unit}")


if __name__ == "__main__":
  main()
