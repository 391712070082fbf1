"""A world model ready for use: frames and instructions in, videos out."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import tokenizers

from dreamgen_jax import errors, interfaces
from dreamgen_jax.encoders import tokenizer as tokenizer_lib


@dataclasses.dataclass(frozen=True)
class Dreamer:
  """A world model with its weights and tokenizer.

  Attributes:
    model, params, tokenizer: the parts; adapters already merged.
    steps, guidance: the sampler's settings.
    batch_size: clips per call; the last call is padded, so there is one
      compiled program, and no clip depends on its neighbours.
    negative: prompt of the unguided branch.
  """

  model: interfaces.WorldModel
  params: interfaces.Params
  tokenizer: tokenizers.Tokenizer
  steps: int
  guidance: float
  batch_size: int
  negative: str = ""

  def text(self, prompts: Sequence[str]) -> np.ndarray:
    """Prompts -> text states f32[n,m,d]."""
    return encode_prompts(self.model, self.params, self.tokenizer, prompts)

  def dream(self, frames: np.ndarray, instructions: Sequence[str],
            seeds: Sequence[int]) -> np.ndarray:
    """First frames u8[n,h,w,3] -> clips u8[n,f,h,w,3].

    Raises:
      DataError: the frames are not of the size that the model takes.
    """
    c = self.model.config
    if frames.shape[1:] != (c.height, c.width, 3):
      raise errors.DataError(
          f"The start frames are {frames.shape[1]}x{frames.shape[2]}; the "
          f"world model takes {c.height}x{c.width}. Resize the prompts.")
    text = self.text(instructions)
    empty = np.broadcast_to(
        self.text([self.negative]), (self.batch_size, *text.shape[1:]))
    clips = []
    for start in range(0, len(frames), self.batch_size):
      part = slice(start, start + self.batch_size)
      rows = [pad(x[part], self.batch_size)
              for x in (np.asarray(seeds), frames, text)]
      generate = _generator(self.model, self.steps, self.guidance)
      clips.append(np.asarray(
          generate(self.params, *rows, empty))[:len(frames[part])])
    return np.concatenate(clips)


@functools.cache  # one compiled program for all weights of a model
def _generator(model: interfaces.WorldModel, steps: int,
               guidance: float) -> Any:

  @jax.jit
  def generate(params, seeds, frames, text, empty):
    keys = jax.vmap(jax.random.key)(seeds)
    return model.generate(
        params, keys, frames, text, empty, steps=steps, guidance=guidance)

  return generate


@functools.cache
def _text_encoder(model: interfaces.WorldModel) -> Any:
  return jax.jit(model.encode_text)


def encode_prompts(model: interfaces.WorldModel, params: interfaces.Params,
                   tokenizer: tokenizers.Tokenizer,
                   prompts: Sequence[str]) -> np.ndarray:
  """Prompts -> text states f32[n,m,d]; each distinct prompt is run once."""
  distinct = sorted(set(prompts))
  ids, mask = tokenizer_lib.encode(
      tokenizer, distinct, model.config.transformer.text_len)
  encode, chunk = _text_encoder(model), 64
  states = np.concatenate([
      np.asarray(encode(params, pad(ids[i:i + chunk], chunk),
                        pad(mask[i:i + chunk], chunk)))
      for i in range(0, len(distinct), chunk)])
  rows = {prompt: row for row, prompt in enumerate(distinct)}
  return states[[rows[prompt] for prompt in prompts]]


def pad(rows: Any, size: int) -> Any:
  """Repeats the last row until there are `size`."""
  missing = size - len(rows)
  if not missing:
    return rows
  return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
