"""A tf.data pipeline in the order of Octo's, on `turns`.

  python -m dreamgen_jax.benchmarks.peers.windows_octo FOLDER

FOLDER holds TFDS datasets octo-SIZE, written by `benchmarks.windows`. As
octo.data and dlimp do: episodes with their pictures encoded, windows by
gathering, flattened, a shuffle buffer of windows, and only then decoded, in
parallel. No resizing. A task "SIZE FRAMES WINDOWS" draws so many windows.
Needs tensorflow-cpu and tensorflow_datasets.
"""

import functools
import pathlib
import struct
import sys

import tensorflow as tf
import tensorflow_datasets as tfds

from dreamgen_jax.benchmarks import turns

_SHUFFLE = {"256": 200, "480": 30}  # windows held, as measured before
_HEAD, _TAIL = 12, 4


def _checksummed(folder):
  """TensorFlow wants checksums, which the writer of the files left out."""
  for file in folder.glob("*.tfrecord-*"):
    data, at, records = file.read_bytes(), 0, []
    while at < len(data):
      (size,) = struct.unpack_from("<Q", data, at)
      records.append(data[at + _HEAD:at + _HEAD + size])
      at += _HEAD + size + _TAIL
    with tf.io.TFRecordWriter(str(file)) as writer:
      for record in records:
        writer.write(record)


@functools.cache
def _windows(folder, size, frames):
  root = folder / f"octo-{size}"
  _checksummed(root)
  parallel = tf.data.AUTOTUNE
  episodes = tfds.builder_from_directory(root).as_dataset(
      split="train", shuffle_files=True,
      decoders={"steps": tfds.decode.SkipDecoding()})

  def windows(episode):
    steps = episode["steps"]
    length = tf.shape(steps["action"])[0]
    starts = tf.range(tf.maximum(length - frames + 1, 0))
    at = starts[:, None] + tf.range(frames)[None]
    return {name: tf.gather(value, at) for name, value in (
        ("image", steps["observation"]["image"]),
        ("state", steps["observation"]["state"]),
        ("action", steps["action"]))}

  def decode(window):
    image = tf.map_fn(
        lambda data: tf.io.decode_image(
            data, expand_animations=False, dtype=tf.uint8),
        window["image"], fn_output_signature=tf.uint8)
    return window | {"image": image}

  data = episodes.repeat().map(windows, parallel).unbatch()
  data = data.shuffle(_SHUFFLE[size]).map(decode, parallel)
  return data.batch(2).prefetch(1).as_numpy_iterator()


def main(folder: pathlib.Path) -> None:
  """Serves "SIZE FRAMES WINDOWS"."""

  def draw(task):
    size, frames, count = task.split()
    batches = _windows(folder, size, int(frames))
    total = 0.0
    for _ in range(int(count) // 2):
      total += float(next(batches)["image"][0, 0, 0, 0, 0])
    return total

  turns.serve(turns.ByName(draw))


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
