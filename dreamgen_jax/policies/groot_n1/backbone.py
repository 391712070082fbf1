"""The vision-language part of GR00T N1: Eagle 2 (arXiv 2501.14818).

  images f32[b,v,h,w,3] -> SigLIP 2 -> 2x2 patches side by side -> MLP
  tokens i32[b,m], of which some stand for images' patches -> the first blocks
  of a language model, final norm included -> linear -> context f32[b,m,d]

The context depends on neither state, action nor time: it is computed once per
chunk. Structure and parameter names follow NVIDIA's Isaac-GR00T repository.
"""

import dataclasses

import jax
from einops import rearrange
from flax import linen as nn

from dreamgen_jax import errors, types, weights
from dreamgen_jax.encoders import llama, siglip
from dreamgen_jax.layers import norm


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes.

  Attributes:
    vision: of the images' tower.
    language: of the language model; its states after `skip = 0` are read.
    width: of the context.
    image_token: id of the tokens that stand for images' patches.
  """

  vision: siglip.Config
  language: llama.Config
  width: int
  image_token: int

  def __post_init__(self):
    if self.vision.grid % 2:
      raise errors.ConfigError(
          f"Patches are joined two by two, which a grid of {self.vision.grid} "
          "is too odd for; choose another patch or image size.")
    if not 0 <= self.image_token < self.language.vocabulary:
      raise errors.ConfigError(
          f"image_token = {self.image_token} must lie below the vocabulary's "
          f"size, {self.language.vocabulary}.")

  @property
  def image_tokens(self) -> int:
    """Tokens of one image."""
    return (self.vision.grid // 2) ** 2


class Backbone(nn.Module):
  """Images and a prompt -> the context; see the file's docstring."""

  config: Config

  @nn.compact
  def __call__(self, images: types.Array, tokens: types.Array,
               mask: types.Array) -> types.Array:
    """Reads prompts with their images.

    Args:
      images: f32[b,v,h,w,3] in [-1, 1].
      tokens: i32[b,m], with `image_tokens` times `image_token` per image.
      mask: bool[b,m], False for padding, which stands in front.

    Returns:
      f32[b,m,d].
    """
    c = self.config
    count = images.shape[1]
    x = rearrange(images, "b v h w c -> (b v) h w c")
    x, _ = siglip.Tower(c.vision, name="vision")(x)  # b*v l d
    x = Projector(c, name="projector")(x)
    x = rearrange(x, "(b v) l d -> b (v l) d", v=count)
    _, x = llama.Decoder(c.language, name="language")(
        tokens, mask, (tokens == c.image_token, x))
    return nn.Dense(c.width, dtype=c.language.dtype, name="out")(x)  # b m d


class Projector(nn.Module):
  """2x2 patches side by side, layer norm, linear, GELU, linear."""

  config: Config

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b,l,d'] -> [b,l/4,d], both in reading order."""
    c = self.config
    width, dtype = c.language.width, c.language.dtype
    x = rearrange(x, "b (h p w q) d -> b (h w) (p q d)", p=2, q=2,
                  w=c.vision.grid // 2, h=c.vision.grid // 2)
    x = norm.LayerNorm(1e-5, name="norm")(x)
    x = nn.Dense(width, dtype=dtype, name="in")(x)
    x = jax.nn.gelu(x, approximate=False)
    return nn.Dense(width, dtype=dtype, name="out")(x)


def names(patch: int, source: str = "backbone",
          path: str = "") -> list[weights.Rule]:
  """The released names.

  Args:
    patch: side of a patch; its kernel is stored as a convolution.
    source: prefix of the released names.
    path: prefix of ours, ending in "/" unless empty.
  """
  model = f"{source}.model"
  return [
      *siglip.names(
          patch, f"{model}.vision_model.vision_model", f"{path}vision/"),
      *llama.rules(f"{model}.language_model.model.", f"{path}language/"),
      *weights.norm(f"{model}.mlp1.0", f"{path}projector/norm"),
      *weights.dense(f"{model}.mlp1.1", f"{path}projector/in"),
      *weights.dense(f"{model}.mlp1.3", f"{path}projector/out"),
      *weights.dense(f"{source}.linear", f"{path}out"),
  ]
