"""Instructions as GR00T N1 reads them: a chat with images, as token ids.

Images stand where the template has them, each as many tokens long as it has
patches; what is shorter than the network's length is padded in front.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tokenizers

from dreamgen_jax import errors
from dreamgen_jax.encoders import tokenizer as tokenizer_lib

EAGLE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n{images}{instruction}<|im_end|>\n"
    "<|im_start|>assistant\n")


@dataclasses.dataclass(frozen=True)
class Config:
  """What is written around images and instruction; the defaults are Eagle's.

  Attributes:
    template: with "{images}" before "{instruction}".
    image: what an image is written as, with "{patches}".
    numbered: stands before each of several images, with "{number}".
    padding: id of the tokens in front.
    room: tokens for everything but the patches.
  """

  template: str = EAGLE
  image: str = "<img>{patches}</img>\n"
  numbered: str = "<image {number}>"
  padding: int = 2
  room: int = 128

  def __post_init__(self):
    if not 0 <= self.template.find("{images}") < self.template.find(
        "{instruction}") or "{patches}" not in self.image:
      raise errors.ConfigError(
          "A prompt's template needs {images} and then {instruction}, and its "
          f"image needs {{patches}}; got {self.template!r}, {self.image!r}.")


def read(config: Config, tokenizer: tokenizers.Tokenizer,
         instructions: Sequence[str], images: int, patches: int,
         image_token: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
  """Instructions to (ids i32[b,m], mask bool[b,m]).

  m is `room` and the patches. Of a longer instruction the last words are cut,
  with a warning.

  Args:
    config: see above.
    tokenizer: of the language model.
    instructions: b sentences.
    images: how many a prompt has.
    patches: tokens of one image.
    image_token: id of these tokens.
    vocabulary: number of tokens that the language model knows.

  Raises:
    UserError: words that the tokenizer does not know, or a token for patches
      where there is no image.
    ConfigError: the tokenizer is of another model, or there is no room for
      the template.
  """
  if not isinstance(tokenizer, tokenizers.Tokenizer):
    raise errors.ConfigError(
        "GR00T N1 does not read sentencepiece models; let the section `text` "
        "name its own tokenizer, Eagle 2's vocab.json and merges.txt.")
  if tokenizer.get_vocab_size() > vocabulary:
    raise errors.ConfigError(
        f"The tokenizer has {tokenizer.get_vocab_size()} tokens, the policy's "
        f"language model knows {vocabulary}: they are of different models.")

  def encode(text):
    ids = tokenizer_lib.encode_text(tokenizer, text, special=False)
    if image_token in ids:
      raise errors.UserError(
          f"The prompt {text!r} has the token {image_token}, which stands for "
          "images' patches; reword it.")
    return ids

  before, after = config.template.split("{instruction}")
  shown = "".join(
      (config.numbered.format(number=number + 1) if images > 1 else "")
      + config.image for number in range(images))
  *heads, last = before.replace("{images}", shown).split("{patches}")
  head = [number for text in heads
          for number in (*encode(text), *[image_token] * patches)]
  tail = encode(after)
  length = config.room + images * patches
  ids = np.full((len(instructions), length), config.padding, np.int32)
  mask = np.zeros((len(instructions), length), bool)
  for row, instruction in enumerate(instructions):
    words = encode(last + instruction)
    excess = len(head) + len(words) + len(tail) - length
    if excess > len(words):
      raise errors.ConfigError(
          f"prompt.room = {config.room} is too little for the template alone.")
    if excess > 0:
      tokenizer_lib.warn_cut(instruction, excess, length)
      words = words[:-excess]
    found = [*head, *words, *tail]
    ids[row, length - len(found):] = found
    mask[row, length - len(found):] = True
  return ids, mask
