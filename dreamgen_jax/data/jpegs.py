"""Videos of which any frame is read alone: Motion JPEG in an mp4 file.

A window costs its own frames and nothing before them, for 4 to 9 times the
bytes of H.264. Any player shows the file. Frames are coded and decoded by
libjpeg-turbo.
"""

import dataclasses
import fractions
import io

import av
import numpy as np
import simplejpeg

from dreamgen_jax import errors
from dreamgen_jax.data import memory, ranges

# Time goes by the bytes: at 256x256, 95 takes 1.3 times as long.
_QUALITY, _QUALITY_OF_SMALL = 90, 95
_START = b"\xff\xd8\xff"  # of every JPEG


def encode(frames: np.ndarray, hz: float, whole_colour: bool) -> bytes:
  """u8[f,h,w,3] -> mp4; `whole_colour` keeps colour at full resolution."""
  rate = fractions.Fraction(float(hz)).limit_denominator(1000)
  buffer = io.BytesIO()
  with av.open(buffer, "w", format="mp4") as container:
    height, width = frames.shape[1:3]
    stream = container.add_mux_stream(
        "mjpeg", rate=rate, height=height, width=width)
    for i, frame in enumerate(frames):
      packet = av.Packet(simplejpeg.encode_jpeg(
          np.ascontiguousarray(frame),
          quality=_QUALITY_OF_SMALL if whole_colour else _QUALITY,
          colorsubsampling="444" if whole_colour else "420"))
      packet.stream, packet.time_base = stream, 1 / rate
      packet.pts = packet.dts = i
      packet.duration, packet.is_keyframe = 1, True
      container.mux(packet)
  return buffer.getvalue()


@dataclasses.dataclass(frozen=True, eq=False)
class Film:
  """Such a video in its file.

  Attributes:
    file: where it lies.
    borders: i64[f+1]; frame i lies from border i to i + 1.
  """

  file: ranges.Part
  borders: np.ndarray

  def __len__(self) -> int:
    return len(self.borders) - 1


def film(file: ranges.Part) -> Film | None:
  """The video of a file; None if it is of another kind."""
  boxes = _boxes(file)
  if not {"mdat", "moov"} <= set(boxes):
    return None
  begin, _ = boxes["mdat"]
  if file.read(begin, len(_START)) != _START:
    return None
  table = file.read(*boxes["moov"])
  at = table.find(b"stsz") + 4  # version and flags, common size, count, sizes
  common, count = np.frombuffer(table, ">u4", 2, at + 4).tolist()
  sizes = (np.full(count, common) if common
           else np.frombuffer(table, ">u4", count, at + 12))
  # One track: no gaps.
  return Film(file, begin + np.concatenate(
      [[0], np.cumsum(sizes, dtype=np.int64)]))


def decode(film: Film, window: np.ndarray | None) -> np.ndarray:
  """The frames i64[n] of a video, or all -> u8[n,h,w,3].

  Raises:
    DataError: a damaged frame.
  """
  indices = np.arange(len(film)) if window is None else window
  empty = np.empty if window is None else memory.window
  out = np.empty(0, np.uint8)
  begins, ends = film.borders[indices], film.borders[indices + 1]
  # Neighbours are read at once.
  runs = np.flatnonzero(begins[1:] != ends[:-1]) + 1
  for run in np.split(np.arange(len(indices)), runs):
    first = int(begins[run[0]])
    data = memoryview(film.file.read(first, int(ends[run[-1]]) - first))
    for i in run.tolist():
      picture = data[begins[i] - first:ends[i] - first]
      try:
        if not out.size:
          height, width, *_ = simplejpeg.decode_jpeg_header(picture)
          out = empty((len(indices), height, width, 3), np.uint8)
        simplejpeg.decode_jpeg(picture, buffer=out[i])  # h w 3
      except ValueError as error:
        raise errors.DataError(
            f"Damaged video: frame {indices[i]}: {error}.") from error
  return out


def _boxes(file: ranges.Part) -> dict[str, tuple[int, int]]:
  """Name -> (begin, size) of the content of each outermost box."""
  found, at = {}, 0
  while at + 16 <= file.size:
    head = file.read(at, 16)
    size, inner = int.from_bytes(head[:4], "big"), 8
    if size == 1:
      size, inner = int.from_bytes(head[8:], "big"), 16
    if size < inner:
      break
    found[head[4:8].decode("latin1")] = (at + inner, size - inner)
    at += size
  return found
