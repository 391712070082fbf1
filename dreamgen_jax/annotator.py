"""A labeler ready for use: videos in, actions in physical units out."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np

from dreamgen_jax import dreamer, errors, interfaces, types
from dreamgen_jax.data import dataset, labels, normalize, record


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
    batch_size: frame pairs per call.
    digest: of the weights, kept with every label.
    whole: no label (NaN) where a pair's second frame would come after the
      last, as a latent action of a shorter time would be another one.
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

  def label(self, episodes: Iterable[types.Episode]
            ) -> Iterator[types.Episode]:
    """Episodes with action and spread; state is dropped, as it is unknown.

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
      video = np.stack([episode.video[c] for c in self.cameras], axis=1)
      try:
        pairs, starts = labels.windows(
            len(video), episode.clock.video_hz, self.time_base, self.whole)
      except errors.DataError as error:
        raise errors.DataError(f"Episode {episode.id!r}: {error}") from error
      chunks = self._chunks(video, pairs, episode.origin.seed)
      clock = types.Clock(episode.clock.video_hz, self.time_base.control_hz)
      steps = record.num_steps(len(video), clock)
      reached = steps if not self.whole else min(
          steps, int(starts[-1] + 1e-6) + self.time_base.horizon)
      found = labels.aggregate(
          chunks, starts, reached, self.embodiment.action, self.weights)
      rest = ((0, steps - reached), (0, 0))
      yield dataclasses.replace(
          episode, action=np.pad(found.action, rest, constant_values=np.nan),
          spread=np.pad(found.spread, rest),
          disagreement=np.pad(found.disagreement, rest),
          state=None, clock=clock,
          embodiment=self.embodiment.name,
          origin=dataclasses.replace(episode.origin, labeler=self.digest))

  def _chunks(self, video: np.ndarray, pairs: np.ndarray,
              seed: int) -> np.ndarray:
    """video [f,v,h,w,3], pairs [p,2] -> f64[k,p,u,a], binaries not rounded."""
    out, robot = [], self.embodiment.id
    for begin in range(0, len(pairs), self.batch_size):
      part = pairs[begin:begin + self.batch_size]
      rows = dreamer.pad(part, self.batch_size)
      index = dreamer.pad(np.arange(begin, begin + len(part)),
                          self.batch_size)
      found = np.asarray(_sampler(self.model, self.samples, robot)(
          self.params, np.uint32(seed % 2**32), index, video[rows]))
      out.append(found[:, :len(part), :, :self.embodiment.action_dim])
    return labels.to_physical(np.concatenate(out, axis=1), self.normalizer)


@functools.cache  # one compiled program for all weights of a model
def _sampler(model: interfaces.Labeler, samples: int, robot: int) -> Any:

  @jax.jit
  def sample(params, seed, index, images):
    keys = jax.vmap(
        lambda i: jax.random.fold_in(jax.random.key(seed), i))(index)
    embodiment = np.full(len(images), robot, np.int32)
    return model.label_samples(params, keys, images, embodiment, samples)

  return sample


def load(meta: dict[str, Any], model: interfaces.Labeler,
         params: interfaces.Params, **settings: Any) -> Annotator:
  """An annotator from a labeler checkpoint's facts."""
  return Annotator(
      model=model, params=params,
      time_base=labels.TimeBase.from_dict(meta["time_base"]),
      normalizer=normalize.Normalizer.from_json(meta["normalizer"]),
      embodiment=dataset.embodiment_from_dict(meta["embodiment"]),
      cameras=tuple(meta["cameras"]), whole=meta.get("whole", False),
      **settings)


def agreement(truth: np.ndarray, found: np.ndarray,
              keys: tuple[types.Key, ...]) -> dict[str, Any]:
  """How well labels f32[n,a] match recorded actions f32[n,a].

  Returns:
    {"r2": {dimension: value}, "rmse": {dimension: value}, "accuracy":
    {dimension: value}}; the last for binary keys only. An angle's error is
    taken the short way round.
  """
  result: dict[str, Any] = {"r2": {}, "rmse": {}, "accuracy": {}}
  start = 0
  for key in keys:
    for i in range(key.dims):
      name = f"{key.name}[{i}]" if key.dims > 1 else key.name
      a, b = truth[:, start + i], found[:, start + i]
      if key.kind == "binary":
        result["accuracy"][name] = float(np.mean((a > 0.5) == (b > 0.5)))
        continue
      error = b - a
      if key.kind == "angle":
        turn = 360.0 if key.unit == "deg" else 2 * np.pi
        error = error - turn * np.round(error / turn)
      result["rmse"][name] = float(np.sqrt(np.mean(error**2)))
      result["r2"][name] = float(
          1 - np.sum(error**2) / max(np.sum((a - a.mean()) ** 2), 1e-12))
    start += key.dims
  return result
