"""LeRobot's dataset under PyTorch's loader, on `turns`.

  python -m dreamgen_jax.benchmarks.peers.windows_lerobot FOLDER

FOLDER holds LeRobot v3 datasets lerobot-SIZE, written by `benchmarks.windows`.
A task "SIZE FRAMES WINDOWS" draws so many windows. Needs lerobot and
torchcodec. Frames are handed over as uint8, which spares LeRobot its
conversion to float32; two workers, as Octo's and ours have two threads or more.
"""

import functools
import pathlib
import sys

import torch
from lerobot.datasets import lerobot_dataset, video_utils

from dreamgen_jax.benchmarks import turns


def _decode(path, timestamps, tolerance_s, *_, **__):
  """As `decode_video_frames_torchcodec`, without its float32."""
  del tolerance_s
  decoder = video_utils._default_decoder_cache.get_decoder(str(path))
  rate = decoder.metadata.average_fps
  return decoder.get_frames_at([round(at * rate) for at in timestamps]).data


@functools.cache
def _windows(folder, size, frames):
  root = folder / f"lerobot-{size}"
  meta = lerobot_dataset.LeRobotDatasetMetadata("peer/windows", root=root)
  (camera,) = meta.camera_keys
  data = lerobot_dataset.LeRobotDataset(
      "peer/windows", root=root, video_backend="torchcodec",
      delta_timestamps={camera: [i / meta.fps for i in range(frames)]})
  starts = [start for row in meta.episodes
            for start in range(row["dataset_from_index"],
                               row["dataset_to_index"] - frames + 1)]
  loader = torch.utils.data.DataLoader(
      torch.utils.data.Subset(data, starts), batch_size=2, shuffle=True,
      drop_last=len(starts) > 1, num_workers=2, persistent_workers=True)

  def endless():
    while True:
      yield from (batch[camera] for batch in loader)

  return endless()


def main(folder: pathlib.Path) -> None:
  """Serves "SIZE FRAMES WINDOWS"."""
  video_utils.decode_video_frames_torchcodec = _decode

  def draw(task):
    size, frames, count = task.split()
    batches = _windows(folder, size, int(frames))
    total = 0.0
    for _ in range(int(count) // 2):
      total += float(next(batches)[0, 0, 0, 0, 0])
    return total

  turns.serve(turns.ByName(draw))


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
