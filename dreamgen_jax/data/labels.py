"""Frame pairs in, action chunks out: how labels fit on an episode's time line.

A labeler sees two frames, or all of a short clip, and predicts the chunk of
actions from the first on. `TimeBase` says how far apart the ends are and how
fast the chunk runs; `windows` cuts an episode up and `aggregate` folds the
overlapping chunks back into one action, with two measures of doubt, per step.

DreamGen (arXiv 2505.12705, section 2.3) slides the pair by one frame; it does
not say how overlapping chunks meet. GR00T-Dreams averages them uniformly, one
entry per video frame whatever the gap, after thresholding binary keys.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dreamgen_jax import errors, types
from dreamgen_jax.data import normalize, resample, rotation

WEIGHTS = ("uniform", "gaussian", "exponential")


@dataclasses.dataclass(frozen=True)
class TimeBase:
  """Time as a labeler has learnt it; travels with its weights.

  Entry j of a chunk acts at j / control_hz seconds after the pair's first
  frame; the second frame is seen gap_seconds after the first.

  Attributes:
    control_hz: rate of the actions in a chunk.
    video_hz: rate of the video that pairs are taken from.
    gap_seconds: time between the two frames of a pair.
    horizon: actions per chunk.

  Raises:
    ConfigError: a value is not positive, or the gap is not a whole number of
      frames at video_hz.
  """

  control_hz: float
  video_hz: float
  gap_seconds: float
  horizon: int

  def __post_init__(self):
    for field in dataclasses.fields(self):
      if not getattr(self, field.name) > 0:
        raise errors.ConfigError(
            f"TimeBase.{field.name} is {getattr(self, field.name)!r}; it must "
            "be positive.")
    self.gap_frames()

  @property
  def steps_per_gap(self) -> float:
    """Control steps between the two frames of a pair."""
    return self.gap_seconds * self.control_hz

  def gap_frames(self, video_hz: float | None = None) -> int:
    """Frames from the first to the second of a pair, at a video's rate.

    Args:
      video_hz: the video's rate; the labeler's own by default.

    Raises:
      ConfigError: the gap is not a whole, positive number of frames there.
    """
    rate = self.video_hz if video_hz is None else video_hz
    gap = self.gap_seconds * rate
    if round(gap) < 1 or abs(gap - round(gap)) > 1e-3:
      raise errors.ConfigError(
          f"A gap of {self.gap_seconds:g} s is {gap:g} frames at {rate:g} Hz; "
          "it must be a whole number: change gap_seconds, or resample the "
          "video.")
    return round(gap)

  def chunk_times(self) -> np.ndarray:
    """float64[u]: seconds after the first frame at which each entry acts."""
    return np.arange(self.horizon) / self.control_hz

  def to_dict(self) -> dict[str, Any]:
    """Plain values, as stored beside a labeler's weights."""
    return dataclasses.asdict(self)

  @classmethod
  def from_dict(cls, values: dict[str, Any]) -> "TimeBase":
    """The inverse of `to_dict`.

    Raises:
      ConfigError: a field is missing or unknown.
    """
    fields = {field.name for field in dataclasses.fields(cls)}
    if set(values) != fields:
      raise errors.ConfigError(
          f"A time base needs exactly {sorted(fields)}; got {sorted(values)}.")
    return cls(**values)


def pairs(frames: int, timebase: TimeBase, whole: bool = False,
          images: int = 2, stride: int = 1) -> np.ndarray:
  """What a labeler sees of a video at its rate, by first frame.

  Args:
    frames: length of the video.
    timebase: gives the gap.
    whole: leave out windows whose last frame would come after the video's.
    images: frames of a window, evenly from its first to a gap later.
    stride: frames from one window's first to the next one's.

  Returns:
    int64[n_windows, images], first index ascending; unless `whole`, indices
    are clamped to the last frame, as in the training of inverse dynamics.

  Raises:
    DataError: fewer than two frames, no whole window, or strides so long that
      chunks leave steps without a label.
  """
  if frames < 2:
    raise errors.DataError(
        f"A video of {frames} frames has no frame pairs; it needs two.")
  gap = timebase.gap_frames()
  if whole and frames <= gap:
    raise errors.DataError(
        f"A video of {(frames - 1) / timebase.video_hz:g} s has no two frames "
        f"that are {timebase.gap_seconds:g} s apart, as this labeler needs.")
  if stride * timebase.control_hz > timebase.horizon * timebase.video_hz:
    reach = timebase.horizon * timebase.video_hz / timebase.control_hz
    raise errors.DataError(
        f"Windows every {stride} frames leave steps unlabelled: a chunk is as "
        f"long as {reach:g} frames; make the stride no longer.")
  first = np.arange(0, frames - gap if whole else frames, stride)
  offsets = np.linspace(0, gap, images).round().astype(np.int64)
  return np.minimum(first[:, None] + offsets, frames - 1)


def windows(
    frames: int, video_hz: float, timebase: TimeBase, whole: bool = False,
    images: int = 2, stride: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
  """`pairs` of a video at any rate, and where their chunks start.

  The video is seen through its nearest frames at the labeler's rate.

  Args:
    frames: length of the video.
    video_hz: its rate.
    timebase: the labeler's.
    whole, images, stride: see `pairs`.

  Returns:
    (int64[n_windows, images] indices into the video's own frames,
     float64[n_windows] control steps at which each chunk starts).

  Raises:
    DataError: see `pairs`, at the labeler's rate.
  """
  seen = np.asarray(
      resample.nearest_frames(frames, video_hz, timebase.video_hz))
  index = pairs(len(seen), timebase, whole, images, stride)
  starts = index[:, 0] * timebase.control_hz / timebase.video_hz
  return seen[index], starts


def to_physical(chunks: np.ndarray,
                normalizer: normalize.Normalizer) -> np.ndarray:
  """A labeler's chunks float[..., a] -> physical units, ready to aggregate.

  As `normalizer.undo`, but binary keys keep their raw value, 0 for off and 1
  for on, because a vote wants to know how sure each window is.
  """
  out = normalizer.undo(chunks)
  start, low = 0, normalizer.binary_low
  for key in normalizer.keys:
    where = slice(start, start + key.dims)
    if key.kind == "binary":
      out[..., where] = (chunks[..., where] - low) / (1 - low)
    start += key.dims
  return out


class Labels(NamedTuple):
  """One action per control step, and how far it can be trusted.

  Attributes:
    action: f32[n,a].
    spread: f32[n,a], weighted standard deviation over windows and noise
      samples, before the threshold; angles unwrapped, rotations as turns away
      from the mean.
    disagreement: f32[n,a], the part of the spread that lies between windows:
      spread^2 - disagreement^2 is the mean variance of a window's samples.
  """

  action: np.ndarray
  spread: np.ndarray
  disagreement: np.ndarray


def aggregate(
    chunks: np.ndarray,
    starts: np.ndarray,
    length: int,
    keys: Sequence[types.Key],
    weights: str = "uniform",
) -> Labels:
  """Folds overlapping chunks into one action per control step.

  Entry j of window i speaks for step starts[i] + j. Where starts are not
  whole (control_hz is no multiple of video_hz) each chunk is interpolated to
  the whole steps it spans. Entries past the end are dropped.

  Positions are averaged; angles by the mean direction; rotations by the mean
  in SO(3); binary keys by a vote: the mean of the raw values first, the
  threshold (> 0.5) last.

  Args:
    chunks: float[n_windows, u, a] or, with several noise samples per window,
      float[k, n_windows, u, a]; physical units, binary keys not yet rounded.
    starts: float[n_windows], in control steps, not negative.
    length: control steps n of the episode.
    keys: of the action vector, in order.
    weights: of the entries of a chunk: "uniform"; "gaussian" trusts its
      middle (standard deviation u / 4); "exponential" its beginning (decay
      constant u / 4).

  Raises:
    ConfigError: unknown weights.
    DataError: shapes that do not fit, or a step that no chunk reaches.
  """
  if chunks.ndim == 3:
    chunks = chunks[None]  # k n_windows u a
  starts = np.asarray(starts, np.float64)
  dims = sum(key.dims for key in keys)
  if chunks.ndim != 4 or chunks.shape[1] != len(starts) or (
      chunks.shape[3] != dims):
    raise errors.DataError(
        f"Chunks of shape {chunks.shape} do not fit {len(starts)} window "
        f"starts and {dims} action dimensions.")
  value, step, weight = _align(
      chunks.astype(np.float64), starts, entry_weights(weights,
                                                       chunks.shape[2]), keys)
  kept = step < length
  value, step, weight = value[:, kept], step[kept], weight[kept]  # k m a

  def fold(x):  # m ... -> n ...
    total = np.zeros((length, *x.shape[1:]))
    np.add.at(total, step, x * weight.reshape(-1, *[1] * (x.ndim - 1)))
    return total / mass.reshape(-1, *[1] * (x.ndim - 1))

  mass = np.zeros(length)
  np.add.at(mass, step, weight)
  if not mass.all():
    raise errors.DataError(
        f"No chunk reaches control step {int(np.argmin(mass != 0))} of "
        f"{length}; the windows start at steps {starts.min():g} to "
        f"{starts.max():g} and chunks have {chunks.shape[2]} entries.")

  period = _periods(keys)
  circular = np.isfinite(period)
  turn = np.where(circular, 2 * np.pi / period, 1.0)
  mean = np.where(
      circular,
      np.arctan2(fold(np.sin(value * turn).mean(0)),
                 fold(np.cos(value * turn).mean(0))) / turn,
      fold(value.mean(0)))  # n a
  for where in _rotations(keys):
    mean[:, where] = rotation.vector(rotation.nearest(
        fold(rotation.matrix(value[..., where]).mean(0))))
  away = _minus(value, mean[step], keys)  # k m a
  binary = np.repeat([key.kind == "binary" for key in keys],
                     [key.dims for key in keys])
  return Labels(*(x.astype(np.float32) for x in (
      np.where(binary, mean > 0.5, mean),
      np.sqrt(fold((away**2).mean(0))),
      np.sqrt(fold(away.mean(0)**2)))))


def entry_weights(name: str, horizon: int) -> np.ndarray:
  """float64[u]: how much each entry of a chunk counts; see `aggregate`.

  Raises:
    ConfigError: an unknown name.
  """
  j = np.arange(horizon)
  if name == "uniform":
    return np.ones(horizon)
  if name == "gaussian":
    return np.exp(-0.5 * ((j - (horizon - 1) / 2) / (horizon / 4))**2)
  if name == "exponential":
    return np.exp(-j / (horizon / 4))
  raise errors.ConfigError(
      f"Unknown aggregation weights {name!r}; have: {', '.join(WEIGHTS)}.")


def _align(chunks, starts, weight, keys):
  """Chunks k w u a -> their values on whole steps (k m a, steps m, weights m).
  """
  base = np.ceil(starts - 1e-6).astype(np.int64)
  part = np.clip(base - starts, 0.0, None)  # w, in [0, 1)
  part[part < 1e-6] = 0.0
  horizon = chunks.shape[2]
  after = np.minimum(np.arange(horizon) + 1, horizon - 1)
  rise = part[:, None, None] * _minus(chunks[:, :, after], chunks, keys)
  value = chunks + rise  # k w u a
  for where in _rotations(keys) if part.any() else ():
    value[..., where] = rotation.plus(chunks[..., where], rise[..., where])
  weight = weight + part[:, None] * (weight[after] - weight)  # w u
  step = base[:, None] + np.arange(horizon)  # w u
  # The last entry of a shifted chunk has no successor to interpolate with.
  inside = (np.arange(horizon) < horizon - 1) | (part[:, None] == 0)
  return value[:, inside], step[inside], weight[inside]


def _periods(keys):
  """float64[a]: the period of circular dimensions, infinity for others."""
  turn = {"rad": 2 * math.pi, "deg": 360.0}
  for key in keys:
    if key.kind == "angle" and key.unit not in turn:
      raise errors.DataError(
          f"Angle key {key.name!r} has unit {key.unit!r}; it must be 'rad' or "
          "'deg'.")
  return np.repeat(
      [turn[key.unit] if key.kind == "angle" else np.inf for key in keys],
      [key.dims for key in keys])


def _rotations(keys):
  """The slice of each key that is a rotation vector."""
  ends = np.cumsum([key.dims for key in keys])
  return [slice(end - key.dims, end) for key, end in zip(
      keys, ends, strict=True) if key.kind == "rotation"]


def _minus(a, b, keys):
  """a - b of vectors [..., a]: angles and rotations the short way round."""
  period, out = _periods(keys), a - b
  finite = np.where(np.isfinite(period), period, 1.0)
  turns = np.round(out / finite)
  out = out - np.where(np.isfinite(period), turns * finite, 0.0)
  for where in _rotations(keys):
    out[..., where] = rotation.minus(a[..., where], b[..., where])
  return out
