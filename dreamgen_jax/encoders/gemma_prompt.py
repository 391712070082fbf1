"""Prompts of policies on a Gemma: an instruction, and perhaps a state in words.

As pi0 and pi0.5 have them.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import sentencepiece

from dreamgen_jax import errors, interfaces
from dreamgen_jax.encoders import tokenizer as tokenizer_lib
from dreamgen_jax.layers import chunks

_BINS = np.linspace(-1, 1, 257)[:-1]  # left edges of the 256 that tell a state


def example(config: Any, batch_size: int) -> interfaces.Batch:
  """Shapes and dtypes of a policy's training batch, prompts among them.

  Args:
    config: of a policy; what `chunks.example` reads, and text_length.
    batch_size: b.
  """
  prompt = (config.text_length,)
  return chunks.example(config, batch_size, tokens=(prompt, jnp.int32),
                        token_mask=(prompt, jnp.bool_))


def read(config: Any, language: Any, instructions: Sequence[str],
         states: np.ndarray | None = None,
         reserved: int = 0) -> interfaces.Batch:
  """Prompts of a batch: tokens i32[b,m], token_mask bool[b,m].

  Args:
    config: of a policy; has text_length and vocabulary.
    language: with a tokenizer.
    instructions, states: as of `tokenize`.
    reserved: words at the vocabulary's end that stand for actions.

  Raises:
    ConfigError: the tokenizer knows more words than the policy leaves it.
    UserError: an instruction has words that the tokenizer does not know.
  """
  tokens, mask = tokenize(
      language.tokenizer, instructions, states, config.text_length)
  if tokens.max(initial=0) >= config.vocabulary - reserved:
    raise errors.ConfigError(
        f"The tokenizer gives token {tokens.max()}; the policy has vocabulary "
        f"= {config.vocabulary}" + (
            f", and the last {reserved} stand for actions" if reserved else "")
        + ". Take the tokenizer of its release.")
  return {"tokens": tokens, "token_mask": mask}


def tokenize(tokenizer: Any, instructions: Sequence[str],
             states: np.ndarray | None,
             length: int) -> tuple[np.ndarray, np.ndarray]:
  """Prompts as the released policies were trained on.

  Args:
    tokenizer: as `tokenizer_files.load` gives it.
    instructions: b sentences.
    states: f32[b,s] in [-1, 1] for pi0.5, which is told them; else None.
    length: m.

  Returns:
    (ids i32[b,m], mask bool[b,m]). Of a longer prompt the end is cut, with a
    warning.

  Raises:
    UserError: words that the tokenizer does not know.
  """
  ids = np.zeros((len(instructions), length), np.int32)
  mask = np.zeros((len(instructions), length), bool)
  for row, instruction in enumerate(instructions):
    text = instruction.strip().replace("_", " ").replace("\n", " ")
    if states is None:
      # The line's end is a token of its own, whatever stands before it.
      found = _ids(tokenizer, text, True) + _ids(tokenizer, "\n", False)
    else:
      text = f"Task: {text}, State: {digits(states[row])};\nAction: "
      found = _ids(tokenizer, text, True)
    if len(found) > length:
      tokenizer_lib.warn_cut(text, len(found) - length, length)
    found = found[:length]
    ids[row, :len(found)] = found
    mask[row, :len(found)] = True
  return ids, mask


def digits(state: np.ndarray) -> str:
  """f32[s] -> the numbers of its bins, 0 to 255; below -1 it is -1."""
  return " ".join(map(str, np.digitize(state, _BINS) - 1))


def _ids(tokenizer: Any, text: str, begin: bool) -> list[int]:
  """Ids of a text; `begin` adds what the tokenizer puts around prompts."""
  if isinstance(tokenizer, sentencepiece.SentencePieceProcessor):
    return tokenizer.encode(text, add_bos=begin)
  return tokenizer_lib.encode_text(tokenizer, text, special=begin)
