"""Windows over episodes: index tables first, pixels only when asked for.

Each class is a random access source (`len`, `[i]` -> dict of numpy arrays), so
Grain takes it as it is; it is picklable and thread-safe as its dataset is.
Vectors are in physical units unless normalizers are given. All rates come
from the dataset's clock; gaps are in seconds.
"""

import dataclasses
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from dreamgen_jax import errors, registry, types
from dreamgen_jax.data import dataset as dataset_lib
from dreamgen_jax.data import images, padding, source, table, views

_MOST = 4 << 30  # bytes of pictures that are held of one dataset


class Episodes(Protocol):
  """What windows need: a `rlds.Dataset`, a `source.Source`, or `Memory` of one.
  """

  embodiment: types.Embodiment
  index: dict[str, np.ndarray]
  clock: types.Clock
  digest: str
  weight: float

  def __len__(self) -> int:
    """Number of episodes."""

  def episode(self, i: int, cameras: Sequence[str] | None = None,
              frames: Sequence[int] | np.ndarray | None = None,
              ) -> types.Episode:
    """Episode `i` with the wanted part of its video."""


class Memory:
  """Holds decoded episodes in RAM; each is decoded when first asked for.

  Threads decode several at once, seldom the same. Once they fill `_MOST`
  bytes, others are read whenever they are asked for.
  """

  def __init__(self, dataset: dataset_lib.Dataset | source.Source,
               cameras: Sequence[str] | None = None,
               size: tuple[int, int] | None = None):
    """Wraps `dataset`; keeps `cameras` (None: all), resized to `size` (h, w).
    """
    self._dataset, self._size = dataset, size
    self.cameras = list(dataset.cameras if cameras is None else cameras)
    self.embodiment, self.clock = dataset.embodiment, dataset.clock
    self.index, self.ids = dataset.index, dataset.ids
    self.path, self.digest = dataset.path, dataset.digest
    self.weight = dataset.weight
    self._held: dict[int, types.Episode] = {}
    self._bytes = 0
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return len(self._dataset)

  def __getstate__(self) -> dict[str, Any]:
    return self.__dict__ | {"_lock": None, "_held": {}, "_bytes": 0}

  def __setstate__(self, state: dict[str, Any]) -> None:
    self.__dict__.update(state)
    self._lock = threading.Lock()

  def episode(self, i: int, cameras: Sequence[str] | None = None,
              frames: Sequence[int] | np.ndarray | None = None,
              ) -> types.Episode:
    """As `Dataset.episode`; arrays are shared, do not write into them."""
    wanted = self.cameras if cameras is None else cameras
    for camera in wanted:
      if camera not in self.cameras:
        raise errors.DataError(
            f"Camera {camera!r} is not held in memory, only {self.cameras}."
        )
    episode = self._held.get(i)
    if episode is None:
      if self._bytes >= _MOST:
        return self._load(i, wanted, frames)
      episode = self._load(i, self.cameras)
      with self._lock:
        if i not in self._held:
          self._held[i] = episode
          self._bytes += sum(
              video.nbytes for video in episode.video.values())
    take = slice(None) if frames is None else np.asarray(frames)
    return dataclasses.replace(
        episode, video={camera: episode.video[camera][take]
                        for camera in wanted}
    )

  def _load(self, i: int, cameras: Sequence[str],
            frames: Sequence[int] | np.ndarray | None = None) -> types.Episode:
    episode = self._dataset.episode(i, cameras, frames)
    if self._size is None:
      return episode
    return dataclasses.replace(episode, video={
        camera: images.resize(frames, *self._size)
        for camera, frames in episode.video.items()
    })


class _Windows:
  """A table of (episode, first frame); subclasses say how a row is loaded."""

  def __init__(self, episodes: Episodes, size: tuple[int, int] | None):
    self.episodes, self.size = episodes, size
    self.table: table.Starts | np.ndarray = np.zeros((0, 2), np.int64)

  def __len__(self) -> int:
    return len(self.table)

  def _pixels(self, frames: np.ndarray) -> np.ndarray:
    return images.resize(frames, *self.size) if self.size else frames

  def _fill(self, last_starts: np.ndarray, stride: int, what: str) -> None:
    """All starts 0, stride, .. <= last_starts[i] of the episodes kept."""
    kept = self.episodes.index["kept"]
    self.table = table.Starts(np.where(kept, last_starts, -1), stride)
    if not len(self.table):
      raise errors.DataError(
          f"{_name(self.episodes)} gives no {what}: of {len(self.episodes)} "
          f"episodes, {int(kept.sum())} are kept, the longest has "
          f"{int(self.episodes.index['frames'].max())} frames."
      )


class Clips(_Windows):
  """Videos for a world model: {"video" u8[f,h,w,3], "instruction", "id"}."""

  def __init__(self, episodes: Episodes, *, camera: str | Sequence[str],
               num_frames: int, video_hz: float | None = None,
               stride: int = 1, size: tuple[int, int] | None = None,
               only: np.ndarray | None = None):
    """Clips of `num_frames` frames, shown at `video_hz`.

    Args:
      episodes: where from; episodes that are too short are left out.
      camera: which camera, or several: see `views.View`.
      num_frames: frames of a clip.
      video_hz: rate of a clip; None keeps the dataset's.
      stride: frames of the dataset from one clip's start to the next one's.
      size: (h, w) of the picture; None keeps each camera's.
      only: which episodes, bool[episodes]; None is all.

    Raises:
      DataError: no episode is long enough.
    """
    super().__init__(episodes, size)
    self.view = views.View.of(camera)
    hz = video_hz or episodes.clock.video_hz
    self.offsets = _offsets(episodes, num_frames, hz)
    last = episodes.index["frames"] - 1 - self.offsets[-1]
    self._fill(last if only is None else np.where(only, last, -1), stride,
               f"clip of {num_frames} frames at {hz:g} Hz")

  def __getitem__(self, i: int) -> dict[str, Any]:
    number, start = self.table[i].tolist()
    episode = self.episodes.episode(
        number, self.view.named, start + self.offsets)
    return {
        "video": self.view.compose(episode.video, self.size),  # f h w 3
        "instruction": self.view.prompt(episode.instruction),
        "id": episode.id,
    }


def fits(episodes: Episodes, num_frames: int, video_hz: float) -> np.ndarray:
  """Which episodes give a clip of `num_frames` at `video_hz`, bool[episodes].
  """
  span = _offsets(episodes, num_frames, video_hz)[-1]
  return episodes.index["kept"] & (episodes.index["frames"] > span)


def _offsets(episodes, num_frames, video_hz):
  """A clip's frames in its episode, counted from its first."""
  step = episodes.clock.video_hz / video_hz
  return np.floor(
      np.arange(num_frames) * step + 0.5 + 1e-6).astype(np.int64)


class Pairs(_Windows):
  """Two frames and the actions from the first on, for inverse dynamics.

  {"images" u8[2,v,h,w,3], "action" f32[u,a], "mask" bool[u,a],
  "embodiment" i32[], "id"}. As in the released IDM every frame starts a pair,
  the second frame is clamped to the last, and chunks are padded by
  `padding.chunk`; the mask is False only where no label is known. Without a
  horizon, {"images", "id"} of any video, for latent actions. With a normalizer
  of states also the frames' own, "state" f32[2,s] and "state_mask" bool[2].
  """

  def __init__(self, episodes: Episodes, *, cameras: Sequence[str], gap: float,
               horizon: int, stride: int = 1, padded: bool = True,
               size: tuple[int, int] | None = None, normalizer=None,
               frames: int = 2, state_normalizer=None):
    """Pairs `gap` seconds apart with `horizon` control steps.

    Args:
      episodes: where from; all kept episodes with actions are used.
      cameras: the views, in order.
      gap: seconds from the first frame to the second, by the dataset's own
        clock, to the nearest frame.
      horizon: actions of a chunk; 0 needs and reads none.
      stride: frames from one pair to the next.
      padded: False leaves out pairs that reach past their episode's end.
      size: (h, w) to resize to; None keeps the dataset's.
      normalizer: `normalize.Normalizer` of the actions, or None.
      frames: how many to show, evenly from the first to the second.
      state_normalizer: `normalize.Normalizer` of the states, or None.

    Raises:
      DataError: the gap is less than one frame, or there is no pair.
    """
    super().__init__(episodes, size)
    self.cameras, self.horizon = tuple(cameras), horizon
    self.normalizers = normalizer, state_normalizer
    self.gap_frames = round(gap * episodes.clock.video_hz)
    if self.gap_frames < 1:
      raise errors.DataError(
          f"A gap of {gap} s is less than one frame at "
          f"{episodes.clock.video_hz:g} Hz."
      )
    self.offsets = np.linspace(
        0, self.gap_frames, frames).round().astype(np.int64)
    ends, steps = episodes.index["frames"] - 1, episodes.index["steps"]
    last = _last_acting_frame(episodes) if horizon else ends
    if not padded:
      ratio = episodes.clock.steps_per_frame
      last = np.minimum(last, ends - self.gap_frames)
      if horizon:
        last = np.minimum(
            last, np.floor((steps - horizon) / ratio + 1e-6).astype(int))
    usable = episodes.index["has_action"] | (not horizon)
    self._fill(np.where(usable, last, -1), stride, "frame pair with actions"
               if horizon else f"pair of frames {gap:g} s apart")

  def __getitem__(self, i: int) -> dict[str, Any]:
    number, start = self.table[i].tolist()
    last = self.episodes.index["frames"][number] - 1
    pair = np.minimum(start + self.offsets, last)
    episode = self.episodes.episode(number, self.cameras, pair)
    pictures = np.stack([
        self._pixels(episode.video[camera]) for camera in self.cameras
    ], axis=1)  # 2 v h w 3
    if not self.horizon:
      return {"images": pictures, "id": episode.id}
    normalizer, state_normalizer = self.normalizers
    action, mask = padding.chunk(
        episode.action, self.episodes.embodiment.action,
        _step(start, episode.clock), self.horizon, normalizer)
    states = {} if state_normalizer is None else _states(
        episode, pair * episode.clock.steps_per_frame, state_normalizer,
        self.episodes.embodiment.state_dim)
    return states | {
        "images": pictures,
        "action": action,
        "mask": mask,
        "embodiment": np.int32(_row(self.episodes.embodiment, episode)),
        "id": episode.id,
    }


class Observations(_Windows):
  """What a policy sees and should do.

  {"image/<camera>" u8[o,h,w,3], "state" f32[o,s], "state_mask" bool[o],
  "action" f32[u,a], "mask" bool[u,a], "embodiment" i32[], "instruction",
  "id"}. Every frame starts a window. History before the first frame repeats
  it; chunks are padded by `padding.chunk`.
  """

  def __init__(self, episodes: Episodes, *, cameras: Sequence[str],
               horizon: int, history: int = 1,
               history_gap: float | None = None, first_action: int = 0,
               stride: int = 1, size: tuple[int, int] | None = None,
               embodiment_id: int | None = None, state_normalizer=None,
               action_normalizer=None, weigh=None):
    """Observation histories with action chunks.

    Args:
      episodes: where from; all kept episodes with actions are used.
      cameras: the cameras to show.
      horizon: actions of a chunk.
      history: observations o, the last one is now.
      history_gap: seconds between them; None is one control step, or one
        frame where the video is slower.
      first_action: control steps from now to the chunk's first action;
        Diffusion Policy counts from its first observation, 1 - history.
      stride: frames from one window to the next.
      size: (h, w) to resize to; None keeps the dataset's.
      embodiment_id: overrides the robots' own (dreams as their own robot).
      state_normalizer, action_normalizer: `normalize.Normalizer` or None.
      weigh: episode -> float[n], how much each step counts; then there is
        "weight" f32[u].

    Raises:
      DataError: no window.
    """
    super().__init__(episodes, size)
    clock = episodes.clock
    self.cameras, self.horizon = tuple(cameras), horizon
    self.first_action = first_action
    if history_gap is None:
      history_gap = 1 / min(clock.video_hz, clock.control_hz)
    self.ages = history_gap * np.arange(history - 1, -1, -1)  # seconds
    self.embodiment_id, self.weigh = embodiment_id, weigh
    self.normalizers = state_normalizer, action_normalizer
    last = _last_acting_frame(episodes)
    self._fill(np.where(episodes.index["has_action"], last, -1), stride,
               "observation with actions")

  def __getitem__(self, i: int) -> dict[str, Any]:
    number, start = self.table[i].tolist()
    clock = self.episodes.clock
    seconds = start / clock.video_hz - self.ages
    frames = _nearest(seconds * clock.video_hz,
                      self.episodes.index["frames"][number])
    episode = self.episodes.episode(number, self.cameras, frames)
    state_normalizer, action_normalizer = self.normalizers
    first = _step(start, clock) + self.first_action
    action, mask = padding.chunk(
        episode.action, self.episodes.embodiment.action, first, self.horizon,
        action_normalizer)
    extra = _states(episode, seconds * clock.control_hz, state_normalizer,
                    self.episodes.embodiment.state_dim)
    if self.weigh:
      wanted = np.arange(first, first + self.horizon)
      weights = self.weigh(episode)
      extra["weight"] = weights[
          np.clip(wanted, 0, len(weights) - 1)].astype(np.float32)
    return extra | {
        **{f"image/{camera}": self._pixels(episode.video[camera])
           for camera in self.cameras},
        "action": action,
        "mask": mask,
        "embodiment": np.int32(
            _row(self.episodes.embodiment, episode)
            if self.embodiment_id is None else self.embodiment_id),
        "instruction": episode.instruction,
        "id": episode.id,
    }


def _states(episode: types.Episode, positions: np.ndarray, normalizer,
            width: int) -> dict[str, np.ndarray]:
  """States nearest to some control steps; zeros where none are known."""
  known = episode.state is not None
  state = np.zeros((len(positions), width), np.float32)
  if episode.state is not None:
    state = episode.state[_nearest(positions, len(episode.state))]
    if normalizer is not None:
      state = normalizer.apply(state)
  return {"state": state.astype(np.float32),
          "state_mask": np.full(len(positions), known)}


def _last_acting_frame(episodes: Episodes) -> np.ndarray:
  """Per episode, the last frame at whose time there is still an action."""
  by_steps = np.floor(
      (episodes.index["steps"] - 1) / episodes.clock.steps_per_frame + 1e-6)
  return np.minimum(by_steps.astype(int), episodes.index["frames"] - 1)


def _step(frame: int, clock: types.Clock) -> int:
  """The control step nearest to a frame's time."""
  return int(np.floor(frame * clock.steps_per_frame + 0.5 + 1e-6))


def _nearest(positions: np.ndarray, length: int) -> np.ndarray:
  """Rounded positions, clamped into 0 .. length - 1."""
  rounded = np.floor(positions + 0.5 + 1e-6).astype(np.int64)
  return np.clip(rounded, 0, length - 1)


def _row(embodiment: types.Embodiment, episode: types.Episode) -> int:
  """Id of the episode's robot; a dataset may hold several of one layout."""
  if episode.embodiment == embodiment.name:
    return embodiment.id
  return registry.find("embodiments", episode.embodiment).EMBODIMENT.id


def _name(episodes: Episodes) -> str:
  return str(getattr(episodes, "path", "The dataset"))
