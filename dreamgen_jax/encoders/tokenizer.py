"""Prompts to token ids, with the tokenizer files of the released models.

T5-family models read `tokenizer.json` (the `tokenizers` library); the end
token is the file's own post-processor's, padding is id 0.
"""

import functools
import html
import pathlib
import re
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from dreamgen_jax import errors

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
PAD_ID, END_ID = 0, 1  # of every T5-family vocabulary


@functools.lru_cache
def load(path: str) -> tokenizers.Tokenizer:
  """Reads tokenizer.json of a checkpoint folder.

  Raises:
    CheckpointError: the file is missing or is not a tokenizer.
  """
  file = pathlib.Path(path)
  if not file.exists():
    raise errors.CheckpointError(f"No tokenizer file at {file}.")
  try:
    return tokenizers.Tokenizer.from_file(str(file))
  except Exception as error:  # the library raises bare Exception
    raise errors.CheckpointError(
        f"{file} is not a tokenizer file ({error}).") from error


def clean(prompt: str) -> str:
  """Undoes HTML escapes (twice, as Wan does) and folds white space."""
  prompt = html.unescape(html.unescape(prompt))
  return re.sub(r"\s+", " ", prompt).strip()


def encode(tokenizer: tokenizers.Tokenizer, prompts: Sequence[str],
           length: int) -> tuple[np.ndarray, np.ndarray]:
  """Prompts to (ids i32[b, m], mask bool[b, m]) with m = length.

  Of a longer prompt the last words are cut, its end token is not; a warning
  says how many.

  Raises:
    UserError: a prompt has words that the tokenizer does not know.
  """
  ids = np.zeros((len(prompts), length), np.int32)
  mask = np.zeros((len(prompts), length), bool)
  for row, prompt in enumerate(map(clean, prompts)):
    found = encode_text(tokenizer, prompt)
    if len(found) > length:
      warn_cut(prompt, len(found) - length, length)
      found = [*found[:length - 1], found[-1]]
    ids[row, :len(found)] = found
    mask[row, :len(found)] = True
  return ids, mask


def warn_cut(prompt: str, count: int, length: int) -> None:
  """Warns of a prompt that loses its last `count` tokens."""
  warnings.warn(
      f"The prompt {prompt!r} is too long: its last {count} tokens are cut; "
      f"the model takes {length}.", stacklevel=2)


def encode_text(tokenizer: tokenizers.Tokenizer, text: str,
                special: bool = True) -> list[int]:
  """Ids of a text as it stands.

  Args:
    tokenizer: of the file.
    text: with special tokens, if any, written out.
    special: add those that the file's post-processor adds.

  Raises:
    UserError: it has words that the tokenizer does not know.
  """
  found = tokenizer.encode(text, add_special_tokens=special)
  unknown = tokenizer.token_to_id(UNKNOWN)
  if unknown in found.ids:
    words = [text[start:end] for token, (start, end)
             in zip(found.ids, found.offsets, strict=True)
             if token == unknown]
    raise errors.UserError(
        f"The prompt {text!r} has words that this model never saw: "
        f"{', '.join(words)}.")
  return found.ids


def train(captions: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
  """A word-level tokenizer of the captions, in the layout T5 expects."""
  tokenizer = tokenizers.Tokenizer(models.WordLevel(unk_token=UNKNOWN))
  tokenizer.normalizer = normalizers.Lowercase()
  tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
  tokenizer.train_from_iterator(
      map(clean, captions),
      trainers.WordLevelTrainer(
          vocab_size=vocab_size, special_tokens=[PAD, END, UNKNOWN],
          show_progress=False))
  end = tokenizer.token_to_id(END)
  tokenizer.post_processor = processors.TemplateProcessing(
      single=f"$A {END}", special_tokens=[(END, end)])
  return tokenizer
