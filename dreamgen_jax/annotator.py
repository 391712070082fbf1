"""A labeler ready for use: videos in, actions in physical units out."""

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax import dreamer, errors, interfaces, types
from dreamgen_jax.data import (
  dataset,
  images,
  labels,
  normalize,
  record,
  resample,
)

STATES = ("zero", "decoded", "recorded")
_NO_STATES = (
    "This labeler decodes no states; train it with config.state = True.")


@dataclasses.dataclass(frozen=True, eq=False)
class Annotator:
  """A labeler with its weights, time base and units.

  Attributes:
    model, params: the labeler.
    time_base: as it was trained.
    normalizer: of its actions.
    embodiment: whose actions they are.
    cameras: the views it reads, in order.
    samples: noise samples per window; their spread tells how sure it is.
    weights: of overlapping chunks, see `labels.aggregate`.
    batch_size: windows, and frames, per call.
    digest: of the weights, kept with every label.
    whole: no label (NaN) where a pair's second frame would come after the
      last, as a latent action of a shorter time would be another one.
    stride: frames from one window to the next; 1 is as released. Where it
      divides the gap, few frames are looked at, and each step still has
      horizon / stride windows.
    state: which states go with the labels: "zero" for none (whoever reads them
      sees zeros and a flag), "decoded" from the video, or "recorded", as far
      as the episode has them.
    state_normalizer: of states that can be decoded, or None.
    calibration: factors on the spread, one per dimension of the action; none
      leaves it as the samples have it.
  """

  model: interfaces.Labeler
  params: interfaces.Params
  time_base: labels.TimeBase
  normalizer: normalize.Normalizer
  embodiment: types.Embodiment
  cameras: tuple[str, ...]
  samples: int
  weights: str
  batch_size: int
  digest: str
  whole: bool = False
  stride: int = 1
  state: str = "zero"
  state_normalizer: normalize.Normalizer | None = None
  calibration: tuple[float, ...] = ()

  def __post_init__(self):
    if self.state not in STATES:
      raise errors.ConfigError(
          f"Unknown state {self.state!r}; have: {', '.join(STATES)}.")
    if self.state == "decoded" and self.state_normalizer is None:
      raise errors.ConfigError(_NO_STATES)

  def label(self, episodes: Iterable[types.Episode]
            ) -> Iterator[types.Episode]:
    """Episodes with action, spread, disagreement, and state as chosen.

    Noise is keyed by the episode's seed and the window, so a label does not
    depend on what else is labelled.

    Raises:
      DataError: an episode lacks a camera or is shorter than a frame pair.
    """
    for episode in episodes:
      missing = [c for c in self.cameras if c not in episode.video]
      if missing:
        raise errors.DataError(
            f"Episode {episode.id!r} lacks the camera {missing[0]!r} that the "
            f"labeler reads; it has {', '.join(episode.video)}.")
      video = self._views(episode.video)
      try:
        index, starts = labels.windows(
            len(video), episode.clock.video_hz, self.time_base, self.whole,
            getattr(self.model.config, "frames", 2), self.stride)
      except errors.DataError as error:
        raise errors.DataError(f"Episode {episode.id!r}: {error}") from error
      frames, rows = np.unique(index, return_inverse=True)
      seen = self._see(video[frames])
      chunks = self._chunks(
          seen, rows.reshape(index.shape), episode.origin.seed)
      clock = types.Clock(episode.clock.video_hz, self.time_base.control_hz)
      steps = record.num_steps(len(video), clock)
      reached = steps if not self.whole else min(
          steps, int(starts[-1] + 1e-6) + self.time_base.horizon)
      found = labels.aggregate(
          chunks, starts, reached, self.embodiment.action, self.weights)
      rest = ((0, steps - reached), (0, 0))
      yield dataclasses.replace(
          episode, action=np.pad(found.action, rest, constant_values=np.nan),
          spread=np.pad(found.spread, rest) * np.array(
              self.calibration or 1.0, np.float32),
          disagreement=np.pad(found.disagreement, rest),
          state=self._state(episode, seen, frames, steps), clock=clock,
          embodiment=self.embodiment.name, origin=dataclasses.replace(
              episode.origin, labeler=self.digest,
              state_decoded=self.state == "decoded",
              labeling=json.dumps({
                  **self.time_base.to_dict(), "samples": self.samples,
                  "stride": self.stride, "weights": self.weights})))

  def _see(self, video: np.ndarray) -> jax.Array:
    """Frames [f,v,h,w,3] -> what the labeler makes of each, on the device."""
    look = _eye(self.model)
    return jnp.concatenate([
        look(self.params, dreamer.pad(part, self.batch_size))[:len(part)]
        for part in _parts(video, self.batch_size)])

  def _chunks(self, seen: jax.Array, rows: np.ndarray,
              seed: int) -> np.ndarray:
    """Seen frames, windows [p,f] of them -> f64[k,p,u,a], physical units.

    Binaries are not rounded yet.
    """
    sample, out = _sampler(
        self.model, self.samples, self.embodiment.id), []
    for index in _parts(np.arange(len(rows)), self.batch_size):
      padded = dreamer.pad(index, self.batch_size)
      found = np.asarray(sample(
          self.params, np.uint32(seed % 2**32), padded, seen[rows[padded]]))
      out.append(found[:, :len(index), :, :self.embodiment.action_dim])
    return labels.to_physical(np.concatenate(out, axis=1), self.normalizer)

  def _state(self, episode: types.Episode, seen: jax.Array,
             frames: np.ndarray, steps: int) -> np.ndarray | None:
    """States f32[steps,s], or None."""
    keys = self.embodiment.state
    wanted = np.arange(steps) / self.time_base.control_hz  # s
    if self.state == "recorded" and episode.state is not None:
      times = np.arange(len(episode.state)) / episode.clock.control_hz
      return resample.between(episode.state, keys, times, wanted)
    if self.state != "decoded":
      return None
    return resample.between(self._decoded(seen), keys,
                            frames / episode.clock.video_hz, wanted)

  def states(self, video: Mapping[str, np.ndarray]) -> np.ndarray:
    """What the robot's state is in each frame.

    Args:
      video: camera -> u8[f,h,w,3]; those that the labeler reads must be there.

    Returns:
      f32[f,s], physical units.

    Raises:
      ConfigError: this labeler decodes no states.
    """
    if self.state_normalizer is None:
      raise errors.ConfigError(_NO_STATES)
    return self._decoded(self._see(self._views(video)))

  def _views(self, video: Mapping[str, np.ndarray]) -> np.ndarray:
    """The cameras that the labeler reads, at its size, [f,v,h,w,3]."""
    size = (self.model.config.camera_size,) * 2
    return np.stack([images.resize(video[c], *size)
                     for c in self.cameras], axis=1)  # f v h w 3

  def _decoded(self, seen: jax.Array) -> np.ndarray:
    """States f32[f,s] of seen frames."""
    assert self.state_normalizer is not None  # checked at the start
    decode = _decoder(self.model, self.embodiment.id)
    found = np.concatenate([
        np.asarray(decode(self.params, dreamer.pad(part, self.batch_size))
                   )[:len(part)]
        for part in _parts(np.asarray(seen), self.batch_size)])
    return self.state_normalizer.undo(found)


def _parts(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
  return (rows[begin:begin + size] for begin in range(0, len(rows), size))


# One compiled program each for all weights of a model.


@functools.cache
def _eye(model: interfaces.Labeler) -> Any:
  return jax.jit(model.see)


@functools.cache
def _sampler(model: interfaces.Labeler, samples: int, robot: int) -> Any:

  @jax.jit
  def sample(params, seed, index, seen):
    keys = jax.vmap(
        lambda i: jax.random.fold_in(jax.random.key(seed), i))(index)
    embodiment = np.full(len(seen), robot, np.int32)
    return model.label(params, keys, seen, embodiment, samples)

  return sample


@functools.cache
def _decoder(model: Any, robot: int) -> Any:
  return jax.jit(lambda params, seen: model.state(
      params, seen, np.full(len(seen), robot, np.int32)))


def load(meta: dict[str, Any], model: interfaces.Labeler,
         params: interfaces.Params, **settings: Any) -> Annotator:
  """An annotator from a labeler checkpoint's facts."""
  return Annotator(
      model=model, params=params,
      time_base=labels.TimeBase.from_dict(meta["time_base"]),
      normalizer=normalize.Normalizer.from_json(meta["normalizer"]),
      embodiment=dataset.embodiment_from_dict(meta["embodiment"]),
      cameras=tuple(meta["cameras"]), whole=meta.get("whole", False),
      state_normalizer=meta.get("state") and normalize.Normalizer.from_json(
          meta["state"]),
      calibration=tuple(meta.get("calibration", ())),
      **settings)
