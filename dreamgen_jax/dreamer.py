"""A world model ready for use: frames and instructions in, videos out."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from dreamgen_jax import errors, hosts, interfaces


@dataclasses.dataclass(frozen=True)
class Dreamer:
  """A world model with its weights and tokenizer.

  Attributes:
    model, params, tokenizer: the parts; adapters already merged.
    steps, guidance: the sampler's settings.
    batch_size: clips per call; the last call is padded, so there is one
      compiled program, and no clip depends on its neighbours.
    negative: prompt of the unguided branch; None is the model's own.
    clips: how many clips a dream has; each begins at the last frame of the
      one before, told as a first frame always is.
    mesh: of the devices that dream together; params lie on it. None is one.
    reader: the text encoder's parameters, if they lie elsewhere.

  Raises:
    ConfigError: several clips of a model whose last frame is given.
  """

  model: interfaces.WorldModel
  params: interfaces.Params
  tokenizer: Any
  steps: int
  guidance: float
  batch_size: int
  negative: str | None = None
  clips: int = 1
  mesh: jax.sharding.Mesh | None = None
  reader: interfaces.Params | None = None

  def __post_init__(self):
    if self.negative is None:
      object.__setattr__(self, "negative", self.model.config.negative)
    if self.clips > 1 and self.model.config.sees_last_frame:
      raise errors.ConfigError(
          f"{self.clips} clips in a chain, but this world model is told where "
          "a clip ends: set clips = 1.")

  def dream(self, frames: np.ndarray, instructions: Sequence[str],
            seeds: Sequence[int],
            goals: np.ndarray | None = None) -> np.ndarray:
    """First frames u8[n,h,w,3] -> videos u8[n, clips (f - 1) + 1, h, w, 3].

    `goals` u8[n,h,w,3] are the last frames, where the model is told them.

    Raises:
      DataError: the frames are not of the size that the model takes.
    """
    c = self.model.config
    for ends in (frames, frames if goals is None else goals):
      if ends.shape[1:] != (c.height, c.width, 3):
        raise errors.DataError(
            f"The start frames are {ends.shape[1]}x{ends.shape[2]}; the "
            f"world model takes {c.height}x{c.width}. Resize the prompts.")
    video, text = frames[:, None], None
    for clip in range(self.clips):
      first = video[:, -1]
      if text is None or c.text_sees_frame:
        text = [encode_prompts(
            self.model, self.reader or self.params, self.tokenizer, prompts,
            first,
            self.batch_size)
            for prompts in (instructions, [str(self.negative)] * len(frames))]
      video = np.concatenate(
          [video, self._clip(first, goals, text, seeds, clip)[:, 1:]], axis=1)
    return video

  def _clip(self, frames, goals, text, seeds, clip):
    """One clip u8[n,f,h,w,3] from each first frame."""
    generate = program(self.model, self.steps, self.guidance)
    told = {} if goals is None else {"last": goals}
    rows = (np.asarray(seeds), frames, *text, told)
    with jax.set_mesh(self.mesh) if self.mesh else contextlib.nullcontext():
      videos = [_fetch(generate(self.params, *part, clip))
                for part in _parts(rows, len(frames), self.batch_size)]
    return np.concatenate(videos)[:len(frames)]


def _fetch(video: jax.Array) -> np.ndarray:
  """A video that may lie on devices of several hosts, all of which ask."""
  return np.asarray(
      video if video.is_fully_addressable else hosts.local(video))


@functools.cache  # one compiled program for all weights of a model
def program(model: interfaces.WorldModel, steps: int, guidance: float) -> Any:
  """(params, seeds, frames, text, empty, told, clip) -> u8[b,f,h,w,3]."""

  @jax.jit
  def generate(params, seeds, frames, text, empty, told, clip):
    keys = jax.vmap(
        lambda seed: jax.random.fold_in(jax.random.key(seed), clip))(seeds)
    return model.generate(
        params, keys, frames, text, empty, steps=steps, guidance=guidance,
        **told)

  return generate


def ends(model: interfaces.WorldModel, video: Any) -> tuple[Any, ...]:
  """What of a clip [b,f,h,w,3] the model is told: (first,) or (first, last)."""
  last = (video[:, -1],) if model.config.sees_last_frame else ()
  return video[:, 0], *last


@functools.cache
def _text_encoder(model: interfaces.WorldModel) -> Any:
  return jax.jit(model.encode_text)


def encode_prompts(model: interfaces.WorldModel, params: interfaces.Params,
                   tokenizer: Any, prompts: Sequence[str],
                   frames: np.ndarray | None = None,
                   rows_a_call: int = 64) -> interfaces.Batch:
  """Prompts -> text leaves [n, ...]; what is the same is run once.

  Args:
    model, params, tokenizer: of the world model.
    prompts: n of them.
    frames: u8[n,h,w,3], which models read that look at both together.
    rows_a_call: calls are filled up to so many, for one compiled program.

  Raises:
    ConfigError: the model reads prompts with a frame, and there is none.
  """
  sees = model.config.text_sees_frame
  if not sees:
    frames = None
  elif frames is None:
    raise errors.ConfigError(
        "This world model reads a prompt together with a frame; take the text "
        "encoder of another one for sentences alone.")
  rows = list(range(len(prompts))) if sees else [
      prompts.index(prompt) for prompt in sorted(set(prompts))]
  tokens = model.tokenize(tokenizer, [prompts[row] for row in rows])
  shown = None if frames is None else frames[rows]
  encode = _text_encoder(model)
  chunk = min(8, rows_a_call) if sees else rows_a_call
  found = [jax.tree.map(np.asarray, encode(params, *part))
           for part in _parts((tokens, shown), len(rows), chunk)]
  place = {prompts[row]: i for i, row in enumerate(rows)}
  order = rows if sees else [place[prompt] for prompt in prompts]
  return jax.tree.map(lambda *parts: np.concatenate(parts)[order], *found)


def _parts(rows: Any, count: int, size: int) -> Iterator[Any]:
  """A tree of `count` rows in padded parts of `size`."""
  for start in range(0, count, size):
    cut = slice(start, start + size)
    yield jax.tree.map(functools.partial(
        lambda cut, x: pad(x[cut], size), cut), rows)


def pad(rows: Any, size: int) -> Any:
  """Repeats the last row until there are `size`."""
  missing = size - len(rows)
  if not missing:
    return rows
  return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
