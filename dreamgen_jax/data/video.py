"""Videos as mp4 bytes: one thread, same input same bytes.

"h264", by PyAV, is small; "jpeg" (see `jpegs`) is 4 to 9 times larger and
gives random windows at half the cost of decoding. Of H.264, small frames are
coded as RGB planes (`libx264rgb`, crf 10): subsampled colour would smear the
few pixels that an object has. Larger frames take yuv420p, crf 18. No B frames
and a key frame every 16 frames keep random windows cheap to decode; B frames
also made x264's bytes differ from run to run.
"""

import fractions
import io
import pathlib
from typing import Any

import av
import numpy as np

from dreamgen_jax import errors, registry
from dreamgen_jax.data import jpegs, memory, ranges

CODECS = ("h264", "jpeg")
SMALL = 128  # pixels; up to this side colour is kept at full resolution
GROUP = 16  # frames from one key frame to the next

_COMMON = {"g": str(GROUP), "bf": "0", "sc_threshold": "0", "threads": "1"}


def encode(frames: np.ndarray, hz: float, codec: str = "h264") -> bytes:
  """Encodes uint8[f, h, w, 3] RGB frames, shown at `hz`, as an mp4 file.

  Raises:
    DataError: not uint8 RGB, no frame, a rate that is not positive, or an
      unknown codec.
  """
  frames = np.asarray(frames)
  if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
    raise errors.DataError(
        "Video frames must be uint8[f, h, w, 3], not "
        f"{frames.dtype}{list(frames.shape)}."
    )
  if not frames.size:
    raise errors.DataError("A video needs at least one frame.")
  if not (np.isfinite(hz) and hz > 0):
    raise errors.DataError(f"A video's rate must be positive, not {hz} Hz.")
  if codec not in CODECS:
    raise errors.DataError(
        f"Unknown video codec {codec!r}; have: {', '.join(CODECS)}."
        + registry.nearest(codec, list(CODECS)))
  height, width = frames.shape[1:3]
  if codec == "jpeg":
    return jpegs.encode(frames, hz, max(height, width) <= SMALL)
  if max(height, width) <= SMALL:
    encoder, pixels = "libx264rgb", "rgb24"
    options = {"crf": "10", "preset": "veryfast"}
  else:
    encoder = "libx264"
    # Subsampled colour needs even sides.
    pixels = "yuv444p" if height % 2 or width % 2 else "yuv420p"
    options = {"crf": "18", "tune": "fastdecode"}
  buffer = io.BytesIO()
  with av.open(buffer, "w", format="mp4") as container:
    rate = fractions.Fraction(float(hz)).limit_denominator(1000)
    stream: Any = container.add_stream(encoder, rate=rate)
    stream.width, stream.height, stream.pix_fmt = width, height, pixels
    stream.options = {**_COMMON, **options}
    stream.codec_context.thread_count = 1
    for frame in frames:
      picture = av.VideoFrame.from_ndarray(
          np.ascontiguousarray(frame), format="rgb24"
      )
      container.mux(stream.encode(picture))
    container.mux(stream.encode())
  return buffer.getvalue()


def probe(data: bytes | pathlib.Path) -> tuple[int, float, int, int]:
  """(frames, hz, height, width) by a file's header, nothing decoded.

  Raises:
    DataError: not a video.
  """
  try:
    with _open(data) as container:
      stream = container.streams.video[0]
      rate = stream.average_rate
      return (stream.frames, float(rate or 0), stream.codec_context.height,
              stream.codec_context.width)
  except (av.error.FFmpegError, IndexError) as error:
    raise errors.DataError(
        f"Not a readable video: {_reason(error)}."
    ) from error


def decode(data: bytes | pathlib.Path | ranges.Part | jpegs.Film,
           indices=None) -> np.ndarray:
  """Decodes a video file into uint8[f, h, w, 3] RGB frames.

  Args:
    data: the file's bytes or path, or where they are to be read from; all
      that FFmpeg reads will do.
    indices: which frames to return, in any order and with repeats; only the
      needed groups are decoded. None returns all, and verifies their number.

  Raises:
    DataError: damaged bytes, missing frames, or an index out of range.
  """
  if isinstance(data, bytes):
    data = ranges.Part.of(data)
  if isinstance(data, ranges.Part):
    data = jpegs.film(data) or data.read()
  if isinstance(data, jpegs.Film):
    return jpegs.decode(data, None if indices is None
                        else _checked(indices, len(data)))
  try:
    with _open(data) as container:
      stream = container.streams.video[0]
      stream.codec_context.thread_count = 1
      if indices is None:
        return _all(container, stream)
      return _some(container, stream, indices)
  except (av.error.FFmpegError, IndexError) as error:
    raise errors.DataError(f"Damaged video: {_reason(error)}.") from error


def _open(data: bytes | pathlib.Path):
  return av.open(io.BytesIO(data) if isinstance(data, bytes) else str(data))


def _all(container, stream) -> np.ndarray:
  frames = [_pixels(frame) for frame in container.decode(stream)]
  if not frames or (stream.frames and len(frames) != stream.frames):
    raise errors.DataError(
        f"Damaged video: its header promises {stream.frames} frames, "
        f"{len(frames)} could be decoded."
    )
  return np.stack(frames)


def _checked(indices, number: int) -> np.ndarray:
  """The indices as i64[n], all of them among `number` frames (0: unknown)."""
  indices = np.asarray(indices, np.int64)
  if indices.ndim != 1 or not indices.size:
    raise errors.DataError("Frame indices must be a list of at least one.")
  if indices.min() < 0 or (number and indices.max() >= number):
    raise errors.DataError(
        f"Frames {indices.min()}..{indices.max()} wanted of a video of "
        f"{number} frames."
    )
  return indices


def _some(container, stream, indices) -> np.ndarray:
  number = stream.frames
  indices = _checked(indices, number)
  period = 1 / (stream.average_rate * stream.time_base)  # ticks per frame
  start = stream.start_time or 0
  wanted, found = set(indices.tolist()), {}
  if indices.min() >= GROUP:
    container.seek(int(start + indices.min() * period), stream=stream)
  for frame in container.decode(stream):
    index = round((frame.pts - start) / period)
    if index in wanted:
      found[index] = _pixels(frame)
    if len(found) == len(wanted) or index > indices.max():
      break
  missing = wanted - found.keys()
  if missing:
    raise errors.DataError(
        f"Damaged video: frame {min(missing)} of {number} is missing."
    )
  frames = [found[index] for index in indices.tolist()]
  return np.stack(frames, out=memory.window(
      (len(frames), *frames[0].shape), np.uint8))


def _pixels(frame) -> np.ndarray:
  if frame.is_corrupt:
    raise errors.DataError("Damaged video: a frame is corrupt.")
  return frame.to_ndarray(format="rgb24")  # h w 3


def _reason(error: Exception) -> str:
  return getattr(error, "strerror", None) or str(error) or "no video stream"
