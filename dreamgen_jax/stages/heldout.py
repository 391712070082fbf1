"""How well a world model foresees clips that it was not trained on."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax import dreamer, errors, hosts, interfaces, metrics
from dreamgen_jax.data import video as video_lib
from dreamgen_jax.stages import latents, world_model

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)  # of noise
SHOWN = 2  # clips of a sample


@dataclasses.dataclass(frozen=True)
class Heldout:
  """Clips u8[n,f,h,w,3], their prompts, and the batch that a loss reads."""

  truth: np.ndarray
  prompts: list[str]
  batch: interfaces.Batch
  video_hz: float


def read(path: pathlib.Path, base: world_model.Loaded, config: Any,
         folder: pathlib.Path) -> Heldout:
  """Up to `config.evaluate_clips` clips of a dataset, spread over it."""
  source = latents.clips(path, base.model, config.camera)
  rows = np.linspace(
      0, len(source) - 1, min(config.evaluate_clips, len(source))).astype(int)
  source.table = source.table[rows]
  encoded = latents.encode(source, base.model, base.params, folder,
                           config.batch_size, base.tokenizer)
  clips = [source[i] for i in range(len(source))]
  prompts = [clip["instruction"] for clip in clips]
  text = {} if base.model.config.text_sees_frame else (
      world_model.text(base, prompts))
  samples = [encoded[i] | text.get(prompts[i], {}) for i in range(len(clips))]
  batch = {name: np.stack([sample[name] for sample in samples])
           for name in samples[0] if name != "caption"}
  return Heldout(np.stack([clip["video"] for clip in clips]), prompts, batch,
                 base.model.config.video_hz)


class Watch:
  """Measures a model while it is tuned; to be called between steps.

  Same noise each time: errors at fixed levels fall only if the model learns
  (the training loss says little, as its levels and noise are drawn anew).
  """

  def __init__(self, objective: Any, start: interfaces.Params,
               heldout: Heldout, levels: tuple[float, ...]):
    """`start`: the objective's parameters before the first step."""
    self._heldout, self._levels = heldout, levels
    count = len(heldout.truth)

    @jax.jit
    def measure(params, batch):
      def error(case):
        number, level = case
        return jnp.mean(objective.error_at(
            params, jax.random.key(number), batch, jnp.full((count,), level)))

      # Not all at once: less to compile, and less memory.
      return jax.lax.map(error, (jnp.arange(len(levels)), jnp.array(levels)))

    self._measure = measure
    self._before = self(start, 0)

  def __call__(self, params: interfaces.Params, step: int
               ) -> dict[str, float]:
    """Named errors.

    Raises:
      UserError: nothing has changed since before the first step.
    """
    found = np.asarray(self._measure(params, self._heldout.batch))
    named = {f"heldout_error_{level:g}": float(error)
             for level, error in zip(self._levels, found, strict=True)}
    # The warm-up's first step has a rate of 0.
    if step > 1 and named == self._before:
      raise errors.UserError(
          f"After {step} steps the model's output is what it was: nothing that "
          "is trained reaches it; check config.lora.match and the learning "
          "rate.")
    return named


def levels(config: Any, expert: str) -> tuple[float, ...]:
  """The noise levels that an expert is in charge of."""
  if len(config.experts) == 1:
    return LEVELS
  high = expert == config.experts[0]
  return tuple(
      level for level in LEVELS if (level >= config.boundary) == high)


def sample(loaded: world_model.Loaded, heldout: Heldout, sampler: Any,
           path: pathlib.Path) -> None:
  """Writes a video: held-out clips above, what is dreamed of them below.

  All hosts dream together.
  """
  truth = heldout.truth[:SHOWN]
  first, *goal = dreamer.ends(loaded.model, truth)
  dreams = world_model.make_dreamer(loaded, sampler).dream(
      first, heldout.prompts[:SHOWN], range(len(truth)), *goal)
  if not hosts.first():
    return
  rows = [np.concatenate(list(clips), axis=2) for clips in (truth, dreams)]
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(
      video_lib.encode(np.concatenate(rows, axis=1), heldout.video_hz))


def compare(prior: world_model.Loaded, tuned: world_model.Loaded,
            heldout: Heldout, sampler: Any,
            path: pathlib.Path) -> dict[str, float]:
  """PSNR of the frames after the first: repeated, prior, tuned.

  Writes the videos to `path`, an .npz file; all hosts dream together.
  """
  truth = heldout.truth
  videos = {"repeat": np.repeat(truth[:, :1], truth.shape[1], axis=1)}
  for name, loaded in (("prior", prior), ("tuned", tuned)):
    first, *goal = dreamer.ends(loaded.model, truth)
    videos[name] = world_model.make_dreamer(loaded, sampler).dream(
        first, heldout.prompts, range(len(truth)), *goal)
  if hosts.first():
    np.savez_compressed(
        path, truth=truth, captions=np.array(heldout.prompts),
        repeat=videos["repeat"], prior=videos["prior"], tuned=videos["tuned"])
  return {f"psnr_{name}": metrics.psnr(video[:, 1:], truth[:, 1:])
          for name, video in videos.items()}
