"""CLIP vision towers (arXiv 2103.00020): ViT-H/14 of Wan 2.1, ViT-L of LLaVA.

f32[b,h,w,3] -> patches -> linear, a class token in front, learned positions,
layer norm -> pre-norm transformer. Both models read the states before the last
block, with no norm behind; Wan keeps the class token.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from dreamgen_jax import errors, types, weights
from dreamgen_jax.layers import attention, norm, stack


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of a tower.

  Attributes:
    width, depth, heads, mlp_width: of the transformer.
    patch: side of a patch in pixels.
    image_size: side of the image in pixels, a multiple of `patch`.
    epsilon: of the norms.
    activation: of the feed-forward: "gelu", or "quick_gelu" as OpenAI's own.
    dtype: compute dtype.
    remat: see `layers.stack.repeat`.
  """

  width: int
  depth: int
  heads: int
  mlp_width: int
  patch: int
  image_size: int
  epsilon: float = 1e-5
  activation: str = "gelu"
  dtype: str = "float32"
  remat: str = "none"

  def __post_init__(self):
    if self.image_size % self.patch or self.width % self.heads:
      raise errors.ConfigError(
          f"A vision tower needs an image_size ({self.image_size}) divisible "
          f"by patch ({self.patch}) and a width ({self.width}) divisible by "
          f"heads ({self.heads}).")

  @property
  def tokens(self) -> int:
    """Patches and the class token."""
    return (self.image_size // self.patch) ** 2 + 1


PRESETS = {
    "vit_h_14": Config(1280, 32, 16, 5120, 14, 224),
    "vit_l_14_336": Config(1024, 24, 16, 4096, 14, 336,
                           activation="quick_gelu"),
}

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def prepare(images: types.Array, size: int,
            crop: bool = False) -> types.Array:
  """f32[b,h,w,3] in [-1, 1] -> f32[b,size,size,3] in CLIP's normalisation.

  Args:
    images: of any size.
    size: side of the tower's image.
    crop: cut the middle out of the image, as CLIP's own processor does, and
      HunyuanVideo with it. Otherwise the whole image is squeezed into the
      square, as in Wan2.1 `modules/clip.py`.
  """
  if crop:
    images = _middle(images, size)
  else:
    rows = _bicubic(images.shape[1], size)
    columns = _bicubic(images.shape[2], size)
    images = jnp.einsum("ph,bhwc,qw->bpqc", rows, images, columns)
  mean, deviation = np.float32(_MEAN), np.float32(_DEVIATION)
  return (images * 0.5 + 0.5 - mean) / deviation


def _middle(images, size):
  """The shorter side to `size`, antialiased, then the middle of the other."""
  height, width = images.shape[1:3]
  short = min(height, width)
  height, width = size * height // short, size * width // short
  images = jax.image.resize(
      images, (len(images), height, width, 3), "cubic")  # b h w 3
  top, left = (height - size) // 2, (width - size) // 2
  return images[:, top:top + size, left:left + size]


def _bicubic(old: int, new: int) -> np.ndarray:
  """f32[new, old]: torch's bicubic resize (a = -0.75, no antialiasing)."""
  a = -0.75
  place = (np.arange(new) + 0.5) * old / new - 0.5
  first = np.floor(place).astype(int)
  matrix = np.zeros((new, old), np.float32)
  for offset in (-1, 0, 1, 2):
    x = np.abs(place - (first + offset))
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    source = np.clip(first + offset, 0, old - 1)  # edges are repeated
    np.add.at(matrix, (np.arange(new), source), np.where(x <= 1, near, far))
  return matrix


class Tower(nn.Module):
  """The vision tower; see the file's docstring."""

  config: Config

  @nn.compact
  def __call__(self, images: types.Array) -> tuple[types.Array, types.Array]:
    """Encodes square images.

    Args:
      images: f32[b,image_size,image_size,3] from `prepare`.

    Returns:
      (states before the last block [b,l,d], the class token first; its state
      after the last block and norm [b,d]).
    """
    c = self.config
    small = nn.initializers.normal(c.width ** -0.5)
    x = rearrange(images, "b (h p) (w q) c -> b (h w) (p q c)", p=c.patch,
                  q=c.patch)
    x = nn.Dense(c.width, use_bias=False, dtype=c.dtype, name="patch")(x)
    first = self.param("class", small, (c.width,)).astype(x.dtype)
    first = jnp.broadcast_to(first, (len(x), 1, c.width))
    x = jnp.concatenate([first, x], axis=1)  # b l d
    x = x + self.param("positions", small, (c.tokens, c.width)).astype(x.dtype)
    x = norm.LayerNorm(c.epsilon, name="norm_in")(x)
    x, before = stack.repeat(
        Block(c, name="blocks"), (x, x), depth=c.depth, remat=c.remat)
    return before, norm.LayerNorm(c.epsilon, name="norm")(x[:, 0])


class Block(nn.Module):
  """Pre-norm self-attention and MLP; hands on what it was given, too.

  The config is a tower's, of images or of text: see `Config`.
  """

  config: Any

  @nn.compact
  def __call__(
      self, carry: tuple[types.Array, types.Array],
      mask: types.Array | None = None
  ) -> tuple[types.Array, types.Array]:
    """(x [b,l,d], anything), mask bool[l,l] -> (new x [b,l,d], x)."""
    c = self.config
    before, _ = carry
    y = norm.LayerNorm(c.epsilon, name="attention_norm")(before)
    q, k, v = (
        rearrange(nn.Dense(c.width, dtype=c.dtype, name=name)(y),
                  "b l (n k) -> b l n k", n=c.heads) for name in "qkv")
    y = rearrange(attention.attend(q, k, v, mask), "b l n k -> b l (n k)")
    x = before + nn.Dense(c.width, dtype=c.dtype, name="o")(y)
    y = norm.LayerNorm(c.epsilon, name="ffn_norm")(x)
    y = nn.Dense(c.mlp_width, dtype=c.dtype, name="ffn_in")(y)  # b l mlp
    y = _activate(c.activation, y)
    return x + nn.Dense(c.width, dtype=c.dtype, name="ffn_out")(y), before


def _activate(name, x):
  if name == "gelu":
    return jax.nn.gelu(x, approximate=False)
  if name == "quick_gelu":
    return x * jax.nn.sigmoid(1.702 * x)
  raise errors.ConfigError(
      f"activation is {name!r}; it can be gelu, quick_gelu.")


def names(patch: int) -> list[weights.Rule | weights.Ignore]:
  """The released names (Hugging Face `CLIPVisionModel`).

  Args:
    patch: side of a patch; its kernel is stored as a convolution.

  Returns:
    Rules that write the Hub's names and also read them without their prefix.
  """
  # Newer transformers save without the prefix.
  bare = [dataclasses.replace(rule, spare=True)
          for rule in rules("", "", patch)]
  return [*rules("vision_model.", "", patch), *bare, weights.Ignore(
      r"(vision_model\.)?embeddings\.position_ids", "it counts from 0")]


def rules(prefix: str, path: str, patch: int) -> list[weights.Rule]:
  """One form of the names: prefixes of the released and of our names."""
  return [
      weights.Rule(f"{prefix}embeddings.patch_embedding.weight",
                   f"{path}patch/kernel", weights.patch(patch, patch)),
      weights.Rule(f"{prefix}embeddings.class_embedding", f"{path}class"),
      weights.Rule(f"{prefix}embeddings.position_embedding.weight",
                   f"{path}positions"),
      # Spelt so in the files.
      *weights.norm(f"{prefix}pre_layrnorm", f"{path}norm_in"),
      *weights.norm(f"{prefix}post_layernorm", f"{path}norm"),
      *block_rules(f"{prefix}encoder.layers.{{i}}", f"{path}blocks"),
  ]


def block_rules(theirs: str, ours: str) -> list[weights.Rule]:
  """Names of the blocks, which the text tower's are, too."""
  return [
      *weights.norm(f"{theirs}.layer_norm1", f"{ours}/attention_norm"),
      *weights.norm(f"{theirs}.layer_norm2", f"{ours}/ffn_norm"),
      *weights.dense(f"{theirs}.self_attn.{{p:q|k|v}}_proj", f"{ours}/{{p}}"),
      *weights.dense(f"{theirs}.self_attn.out_proj", f"{ours}/o"),
      *weights.dense(f"{theirs}.mlp.fc1", f"{ours}/ffn_in"),
      *weights.dense(f"{theirs}.mlp.fc2", f"{ours}/ffn_out"),
  ]


NAMES = names(14)
