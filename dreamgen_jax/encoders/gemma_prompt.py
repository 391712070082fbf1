"""Prompts of policies on a Gemma: an instruction, and perhaps a state in words.

As pi0 and pi0.5 have them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import sentencepiece

from dreamgen_jax.encoders import tokenizer as tokenizer_lib

_BINS = np.linspace(-1, 1, 257)[:-1]  # left edges of the 256 that tell a state


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
