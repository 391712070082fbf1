"""CPU-seconds and memory per window of video, against LeRobot and Octo.

  python -m dreamgen_jax.benchmarks.windows --episodes=LEROBOT_DIR
      --embodiment=gr1 --clips=MP4_DIR [--lerobot=PYTHON] [--tf=PYTHON]
      [--frames=17,49,81] [--windows=100] [--rounds=3] [--long=10000]
      [--folder=DIR]

Episodes are read at 256x256, clips at 480x832, the same frames on all sides, in
each one's own layout: our JPEGs by byte ranges here, JPEGs as TFDS codes them
in TFRecord under tf.data as in Octo, LeRobot v3 in its default AV1; PSNR tells
what each keeps of the frames. Windows start anywhere, in random order, and come
as batches of two, uint8. "bare" decodes as many of our JPEGs that are in memory
already. --lerobot and --tf are interpreters that have the
peers; without, they do not run. --long windows of the first length tell whether
memory stays.
"""

import dataclasses
import functools
import itertools
import os
import pathlib
import resource
import struct
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from dreamgen_jax import errors, options, registry, types
from dreamgen_jax.benchmarks import turns

OPTIONS = {
    "episodes": "a LeRobot folder",
    "embodiment": ("gr1", "of the episodes"),
    "clips": "a folder of mp4 files",
    "lerobot": "interpreter that has lerobot and torchcodec",
    "tf": "interpreter that has tensorflow-cpu and tensorflow_datasets",
    "frames": ("17,49,81", "of a window"),
    "windows": (100, "drawn in a round"),
    "rounds": (3, "of which the cheapest counts"),
    "long": (0, "windows of a further run that watches memory"),
    "folder": ("", "keeps the datasets for other runs, which find them there"),
    "side": ("", "folder of the datasets; used by the program itself"),
}
_SIZES = {"256": (256, 256), "480": (480, 832)}
_MODULE = "dreamgen_jax.benchmarks"


@options.program(__doc__, OPTIONS)
def main(given: Any) -> None:
  """Runs the program."""
  if given.side:
    _serve(pathlib.Path(given.side))
    return
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(given.folder or name)
    sizes = [size for size, source in (
        ("256", given.episodes), ("480", given.clips)) if source]
    if not sizes:
      raise errors.ConfigError("Give --episodes or --clips.")
    for size in sizes:
      if not (folder / f"here-{size}").exists():
        _write(folder, size, given)
    print("CPU-milliseconds per window, wall in brackets; peak MiB so far")
    for size in sizes:
      sides = {"here": turns.Side(
          [sys.executable, "-m", f"{_MODULE}.windows", f"--side={folder}"])}
      for peer, python in (("lerobot", given.lerobot), ("octo", given.tf)):
        if python:
          sides[peer] = turns.Side(
              [python, "-m", f"{_MODULE}.peers.windows_{peer}", str(folder)])
      _race(sides, size, given)
      for side in sides.values():
        side.close()


def _race(sides: dict[str, turns.Side], size: str, given: Any) -> None:
  count, lengths = given.windows, given.frames.split(",")
  for frames in lengths:
    task = f"{size} {frames} {count}"
    found = turns.race(sides, task, given.rounds, "cpu")
    found |= turns.race({"bare": sides["here"]}, f"bare {task}", given.rounds,
                        "cpu")
    for name, row in found.items():
      cpu, wall = (1e3 * row[each] / count for each in ("cpu", "seconds"))
      print(f"{size:>4} x{frames:<3} {name:8} {cpu:7.2f} ({wall:7.2f}) "
            f"{row['peak_mib']:8.0f}", flush=True)
  if given.long and size == "256":
    for part in range(1, 11):
      row = sides["here"].run(f"{size} {lengths[0]} {given.long // 10}")
      print(f"{part * given.long // 10:6} windows: {row['value']:.0f} MiB held",
            flush=True)


def _serve(folder: pathlib.Path) -> None:
  """Our side: "SIZE FRAMES WINDOWS", and the same after "bare"."""
  import numpy as np
  import simplejpeg

  from dreamgen_jax.data import loader, rlds, windows

  @functools.cache
  def clips(size, frames):
    data = rlds.Dataset(folder / f"here-{size}")
    return windows.Clips(data, camera=data.cameras[0], num_frames=frames)

  @functools.cache
  def batches(size, frames):
    return loader.loader([(clips(size, frames), 1.0)], 2, 0, prefetch=2)

  @functools.cache
  def encoded(size, frames, count):
    """JPEGs of some windows."""
    source, found = clips(size, frames), []
    data = source.episodes
    for i in np.linspace(0, len(source) - 1, count).astype(int):
      number, start = source.table[i].tolist()
      found.append(list(_jpegs(data, number, data.cameras[0]))[
          start:start + frames])
    return found

  def draw(task):
    *bare, size, frames, count = task.split()
    frames, count = int(frames), int(count)
    if not bare:
      for _ in range(count // 2):
        next(batches(size, frames))
      return _held_mib()
    some = encoded(size, frames, 10)
    out = np.empty((frames, *_SIZES[size], 3), np.uint8)
    for i in range(count):
      for k, data in enumerate(some[i % len(some)]):
        simplejpeg.decode_jpeg(data, buffer=out[k])
    return 0.0

  turns.serve(turns.ByName(draw))


def _held_mib() -> float:
  """Memory of this process now, MiB."""
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return pages * resource.getpagesize() / 2**20


def _write(folder: pathlib.Path, size: str, given: Any) -> None:
  """The same frames in the layouts of all sides."""
  import numpy as np

  from dreamgen_jax import metrics
  from dreamgen_jax.data import lerobot_export, pictures, ranges, rlds, video

  episodes, robot = _episodes(size, given)
  (camera,) = robot.cameras
  first = episodes[0].video[camera]

  def kept(side, frames):
    print(f"{size:>4} {side:8} PSNR "
          f"{metrics.psnr(first, frames[:len(first)]):.1f} dB", flush=True)

  if given.lerobot:
    target = folder / f"lerobot-{size}"
    lerobot_export.write(target, episodes, robot, "v3.0")
    files = sorted(target.rglob("*.mp4"))
    for file in files:
      _to_av1(file)
    kept("lerobot", video.decode(files[0], np.arange(len(first))))
  if given.tf:
    _write_tfds(folder / f"octo-{size}", episodes, robot)
    kept("octo", pictures.decode(
        [ranges.Part.of(_as_tfds(frame)) for frame in first]))
  data = rlds.write(folder / f"here-{size}", "windows", episodes, robot,
                    codec="jpeg")
  kept("here", data.episode(0).video[camera])


def _episodes(size: str, given: Any
              ) -> tuple[list[types.Episode], types.Embodiment]:
  import numpy as np

  from dreamgen_jax.data import images, lerobot, video

  if size == "256":
    robot = registry.find("embodiments", given.embodiment).EMBODIMENT
    recorded = lerobot.Folder(given.episodes, robot)
    camera = next(iter(recorded.cameras))
    found = [recorded.episode(name) for name in recorded.ids]
    found = [dataclasses.replace(
        episode, video={camera: episode.video[camera]}) for episode in found]
  else:
    clock, camera = types.Clock(16.0, 16.0), "front"
    robot = types.Embodiment(
        "clips", 0, (types.Key("state", 44),), (types.Key("action", 44),),
        {camera: "front"}, clock)
    found = []
    for file in sorted(pathlib.Path(given.clips).glob("*.mp4")):
      frames = video.decode(file)
      zeros = np.zeros((len(frames), 44), np.float32)
      found.append(types.Episode(
          file.stem, {camera: frames}, file.stem, "clips", clock,
          types.Origin("dream"), zeros, zeros))
  return [dataclasses.replace(episode, video={camera: images.resize(
      episode.video[camera], *_SIZES[size])}) for episode in found], (
          dataclasses.replace(robot, cameras={camera: "front"}))


def _to_av1(file: pathlib.Path) -> None:
  """Codes a film as LeRobot's recorder does: SVT-AV1, crf 30, group of 2."""
  import av

  made = file.with_suffix(".av1.mp4")
  with av.open(str(file)) as source, av.open(str(made), "w") as target:
    old = source.streams.video[0]
    new: Any = target.add_stream("libsvtav1", rate=old.average_rate)
    new.width, new.height = old.codec_context.width, old.codec_context.height
    new.pix_fmt, new.options = "yuv420p", {"g": "2", "crf": "30"}
    for frame in source.decode(old):
      target.mux(new.encode(av.VideoFrame.from_ndarray(
          frame.to_ndarray(format="rgb24"), format="rgb24")))
    target.mux(new.encode())
  os.replace(made, file)


def _as_tfds(frame: Any) -> bytes:
  """A JPEG as TFDS makes it, by TensorFlow's defaults."""
  import numpy as np
  import simplejpeg

  return simplejpeg.encode_jpeg(
      np.ascontiguousarray(frame), quality=95, colorsubsampling="420")


def _write_tfds(folder: pathlib.Path, episodes: list[types.Episode],
                robot: types.Embodiment) -> None:
  """RLDS with a JPEG per step; the peer puts the checksums in."""
  import numpy as np
  import tensorflow_datasets as tfds
  from etils import epath
  from tensorflow_datasets.core import example_serializer, naming
  from tensorflow_datasets.core import splits as tfds_splits

  folder.mkdir(parents=True)
  (camera,) = robot.cameras

  def vector(width):
    return tfds.features.Tensor(shape=(width,), dtype=np.float32)

  features = tfds.features.FeaturesDict({"steps": tfds.features.Dataset({
      "observation": {
          "image": tfds.features.Image(encoding_format="jpeg"),
          "state": vector(robot.state_dim)},
      "action": vector(robot.action_dim)})})
  template = naming.ShardedFileTemplate(
      data_dir=epath.Path(folder), dataset_name="windows", split="train",
      filetype_suffix="tfrecord")
  serializer = example_serializer.ExampleSerializer(
      features.get_serialized_info())
  with open(template.sharded_filepath(shard_index=0, num_shards=1),
            "wb") as file:
    for episode in episodes:
      made = serializer.get_tf_example({"steps": {
          "observation": {
              "image": [_as_tfds(frame) for frame in episode.video[camera]],
              "state": episode.state},
          "action": episode.action}}).SerializeToString()
      file.write(struct.pack("<QI", len(made), 0) + made + bytes(4))
  info = tfds.core.DatasetInfo(
      builder=tfds.core.DatasetIdentity(
          name="windows", version=tfds.core.Version("1.0.0"),
          data_dir=str(folder), module_name=""), features=features)
  info.set_file_format("tfrecord")
  info.set_splits(tfds_splits.SplitDict([tfds_splits.SplitInfo(
      name="train", shard_lengths=[len(episodes)], num_bytes=1,
      filename_template=template)]))
  info.write_to_directory(epath.Path(folder))


def _jpegs(data: Any, i: int, camera: str) -> Iterator[bytes]:
  """The encoded frames of an episode, as they are."""
  from dreamgen_jax.data import jpegs, ranges

  file = ranges.Part.of(data.record(i)["episode_metadata"]["video"][camera])
  film = jpegs.film(file)
  assert film
  for begin, end in itertools.pairwise(film.borders.tolist()):
    yield file.read(begin, end - begin)


if __name__ == "__main__":
  sys.exit(main())
