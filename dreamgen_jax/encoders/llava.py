"""LLaVA (arXiv 2310.03744) on LLaMA 3: an image and a prompt, read together.

The image's CLIP states before the last block, class token left out, go
through two linear layers and stand in the prompt where it has image tokens.
HunyuanVideo's image-to-video models read prompts in this way.
"""

import dataclasses

import jax
from flax import linen as nn

from dreamgen_jax import types, weights
from dreamgen_jax.encoders import clip, llama


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of a reader.

  Attributes:
    vision: of the image's tower.
    language: of the prompt's reader.
    image_token: id of the tokens that stand for the image's patches.
  """

  vision: clip.Config
  language: llama.Config
  image_token: int

  @property
  def image_tokens(self) -> int:
    """How many tokens an image has."""
    return self.vision.tokens - 1  # without the class token


PRESETS = {
    "llava_llama3_8b": Config(
        clip.PRESETS["vit_l_14_336"], llama.PRESETS["llava_llama3_8b"],
        image_token=128_257),
}


class Reader(nn.Module):
  """The image's tower, the projector, and the language model's blocks."""

  config: Config

  @nn.compact
  def __call__(self, tokens: types.Array, mask: types.Array,
               images: types.Array) -> tuple[types.Array, types.Array]:
    """Reads prompts with an image each.

    Args:
      tokens: i32[b,m], each row with `image_tokens` times `image_token`.
      mask: bool[b,m], True for a prompt's tokens, which come first.
      images: f32[b,h,w,3] from `clip.prepare`.

    Returns:
      As `llama.Decoder`.
    """
    c = self.config
    width, dtype = c.language.width, c.language.dtype
    states, _ = clip.Tower(c.vision, name="vision")(images)
    x = nn.Dense(width, dtype=dtype, name="projector_in")(states[:, 1:])
    x = jax.nn.gelu(x, approximate=False)
    x = nn.Dense(width, dtype=dtype, name="projector_out")(x)  # b i d
    return llama.Decoder(c.language, name="language")(
        tokens, mask, (tokens == c.image_token, x))


def names(patch: int) -> list[weights.Rule | weights.Ignore]:
  """The Hub's names, and those that newer transformers save.

  Args:
    patch: side of a patch; its kernel is stored as a convolution.
  """
  renamed = (
      _rules("model.language_model.", "model.vision_tower.vision_model.",
             "model.", patch),
      _rules("model.language_model.", "model.vision_tower.", "model.", patch),
  )
  # Both renamed forms share their language model, which is listed once.
  spare = {rule.name: dataclasses.replace(rule, spare=True)
           for table in renamed for rule in table}
  return [
      *_rules("language_model.model.", "vision_tower.vision_model.", "",
              patch),
      *spare.values(),
      weights.Ignore(r"(language_model\.)?lm_head\.weight",
                     "it predicts tokens; states are read"),
      weights.Ignore(r"(model\.)?vision_tower\.(vision_model\.)?embeddings\."
                     r"position_ids", "it counts from 0"),
  ]


def _rules(language: str, vision: str, projector: str,
           patch: int) -> list[weights.Rule]:
  rules = llama.rules(language, "language/")
  rules += clip.rules(vision, "vision/", patch)
  for theirs, ours in (("linear_1", "projector_in"),
                       ("linear_2", "projector_out")):
    rules += weights.dense(
        f"{projector}multi_modal_projector.{theirs}", ours)
  return rules


NAMES = names(14)
