"""What HunyuanVideo's image-to-video models read of a prompt (host only).

LLaVA reads a template that holds the image and the prompt. Of its states some
of the image's rows are kept, evenly, and the prompt's; which rows those are is
decided here, so that a device only has to take them. CLIP reads the prompt
alone. Source: diffusers `pipeline_hunyuan_video_image2video.py`.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tokenizers

from dreamgen_jax import errors
from dreamgen_jax.encoders import clip_text, llava
from dreamgen_jax.encoders import tokenizer as tokenizer_lib

IMAGE, PROMPT = "<image>", "{}"


@dataclasses.dataclass(frozen=True)
class Config:
  """The template and what is read of it.

  Attributes:
    template: with "<image>" and, behind it, "{}" for the prompt; special
      tokens are written out.
    start: its tokens before the prompt, the image counted as one.
    tail: its tokens behind the prompt; of their states the last is kept.
    length: tokens from the prompt on, at most.
    image_every: every how many-th of the image's rows is kept.
  """

  template: str
  start: int
  tail: int
  length: int
  image_every: int

  def __post_init__(self):
    before, image, after = self.template.partition(IMAGE)
    if PROMPT in before or not image or after.count(PROMPT) != 1:
      raise errors.ConfigError(
          f"The template {self.template!r} must hold {IMAGE!r} once and, "
          f"behind it, {PROMPT!r} once.")

  def image_rows(self, text: llava.Config) -> int:
    """How many of the image's rows are kept."""
    return -(-text.image_tokens // self.image_every)

  def rows(self, text: llava.Config) -> int:
    """How many rows are kept at most."""
    return self.image_rows(text) + self.length - max(0, self.tail - 1)

  def tokens(self, text: llava.Config) -> int:
    """How many tokens LLaVA reads at most."""
    return self.start - 1 + text.image_tokens + self.length


RELEASED = Config(
    template=(
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "<image>\nDescribe the video by detailing the following aspects "
        "according to the reference image: "
        "1. The main content and theme of the video."
        "2. The color, shape, size, texture, quantity, text, and spatial "
        "relationships of the objects."
        "3. Actions, events, behaviors temporal relationships, physical "
        "movement changes of the objects."
        "4. background environment, light, style and atmosphere."
        "5. camera angles, movements, and transitions used in the video:"
        "<|eot_id|>\n\n<|start_header_id|>user<|end_header_id|>\n\n{}"
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"),
    start=103, tail=5, length=256, image_every=4)


def tokenize(config: Config, text: llava.Config, pooled: clip_text.Config,
             tokenizer: Mapping[str, tokenizers.Tokenizer],
             prompts: Sequence[str]) -> dict[str, np.ndarray]:
  """Prompts to what the device needs.

  Args:
    config, text, pooled: of the template and of the two readers.
    tokenizer: {"llama": LLaVA's, "clip": CLIP's}.
    prompts: b of them.

  Returns:
    ids i32[b,m], mask bool[b,m] of the template with image and prompt;
    rows i32[b,r], rows_mask bool[b,r], which of its states are kept;
    pooled_ids i32[b,n] of CLIP.

  Raises:
    UserError: a prompt has unknown words.
    CheckpointError: the tokenizer is not the template's.
  """
  image = text.image_tokens
  before, after = config.template.split(IMAGE)
  first = _ids(tokenizer["llama"], before)
  lead = len(first) + 1 + len(
      _ids(tokenizer["llama"], after.split(PROMPT)[0]))
  if lead != config.start:
    raise errors.CheckpointError(
        f"The LLaMA tokenizer reads {lead} tokens before the prompt; this "
        f"model's reads {config.start}: it belongs to another model.")
  count, total = len(prompts), config.tokens(text)
  leaves = {
      "ids": np.zeros((count, total), np.int32),
      "mask": np.zeros((count, total), bool),
      "rows": np.zeros((count, config.rows(text)), np.int32),
      "rows_mask": np.zeros((count, config.rows(text)), bool),
      "pooled_ids": np.full((count, pooled.length), pooled.end, np.int32),
  }
  for i, prompt in enumerate(map(tokenizer_lib.clean, prompts)):
    ids = [*first, *[text.image_token] * image,
           *_ids(tokenizer["llama"], after.replace(PROMPT, prompt))]
    if len(ids) > total:  # the template's own words behind it stay
      tokenizer_lib.warn_cut(
          prompt, len(ids) - total, config.length - config.tail)
      tail = len(ids) - config.tail
      ids = [*ids[:total - config.tail], *ids[tail:]]
    leaves["ids"][i, :len(ids)] = ids
    leaves["mask"][i, :len(ids)] = True
    kept = [*range(len(first), len(first) + image, config.image_every),
            *range(lead - 1 + image, len(ids) - config.tail),
            *([len(ids) - 1] if config.tail else [])]
    leaves["rows"][i, :len(kept)] = kept
    leaves["rows_mask"][i, :len(kept)] = True
    # CLIP's part is cut off, as released: LLaVA reads the whole prompt.
    ids = [] if pooled.begin is None else [pooled.begin]
    ids = [*ids, *_ids(tokenizer["clip"], prompt)][:pooled.length - 1]
    leaves["pooled_ids"][i, :len(ids)] = ids
  return leaves


def _ids(tokenizer: tokenizers.Tokenizer, text: str) -> list[int]:
  return tokenizer_lib.encode_text(tokenizer, text, special=False)
