"""CLIP vision tower (arXiv 2103.00020) as Wan 2.1 reads it: ViT-H/14.

f32[b,h,w,3] -> patches -> linear, a class token in front, learned positions,
layer norm -> pre-norm transformer. Wan reads the states before the last block,
class token kept, with no norm behind.
"""

import dataclasses

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


PRESETS = {"vit_h_14": Config(1280, 32, 16, 5120, 14, 224)}

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def prepare(images: types.Array, size: int) -> types.Array:
  """f32[b,h,w,3] in [-1, 1] -> f32[b,size,size,3] in CLIP's normalisation.

  The whole image is squeezed into the square, as Wan's own code does; the
  Diffusers pipeline would cut the sides off. Source: Wan2.1 `modules/clip.py`.
  """
  rows = _bicubic(images.shape[1], size)
  columns = _bicubic(images.shape[2], size)
  images = jnp.einsum("ph,bhwc,qw->bpqc", rows, images, columns)
  mean, deviation = np.float32(_MEAN), np.float32(_DEVIATION)
  return (images * 0.5 + 0.5 - mean) / deviation


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
  """Pre-norm self-attention and MLP; hands on what it was given, too."""

  config: Config

  @nn.compact
  def __call__(
      self, carry: tuple[types.Array, types.Array]
  ) -> tuple[types.Array, types.Array]:
    """(x [b,l,d], anything) -> (new x [b,l,d], x)."""
    c = self.config
    before, _ = carry
    y = norm.LayerNorm(c.epsilon, name="attention_norm")(before)
    q, k, v = (
        rearrange(nn.Dense(c.width, dtype=c.dtype, name=name)(y),
                  "b l (n k) -> b l n k", n=c.heads) for name in "qkv")
    y = rearrange(attention.attend(q, k, v), "b l n k -> b l (n k)")
    x = before + nn.Dense(c.width, dtype=c.dtype, name="o")(y)
    y = norm.LayerNorm(c.epsilon, name="ffn_norm")(x)
    y = nn.Dense(c.mlp_width, dtype=c.dtype, name="ffn_in")(y)  # b l mlp
    y = jax.nn.gelu(y, approximate=False)
    return x + nn.Dense(c.width, dtype=c.dtype, name="ffn_out")(y), before


def names(patch: int) -> list[weights.Rule | weights.Ignore]:
  """The released names (Hugging Face `CLIPVisionModel`).

  Args:
    patch: side of a patch; its kernel is stored as a convolution.

  Returns:
    Rules that write the Hub's names and also read them without their prefix.
  """
  # Newer transformers save without the prefix.
  bare = [dataclasses.replace(rule, spare=True) for rule in _rules("", patch)]
  return [*_rules("vision_model.", patch), *bare, weights.Ignore(
      r"(vision_model\.)?embeddings\.position_ids", "it counts from 0")]


def _rules(prefix: str, patch: int) -> list[weights.Rule]:
  layer = f"{prefix}encoder.layers.{{i}}"
  rules = [
      weights.Rule(f"{prefix}embeddings.patch_embedding.weight",
                   "patch/kernel", weights.patch(patch, patch)),
      weights.Rule(f"{prefix}embeddings.class_embedding", "class"),
      weights.Rule(
          f"{prefix}embeddings.position_embedding.weight", "positions"),
  ]
  for theirs, ours in (
      (f"{prefix}pre_layrnorm", "norm_in"),  # spelt so in the files
      (f"{layer}.layer_norm1", "blocks/attention_norm"),
      (f"{layer}.layer_norm2", "blocks/ffn_norm"),
      (f"{prefix}post_layernorm", "norm"),
  ):
    rules += weights.norm(theirs, ours)
  for theirs, ours in (
      (f"{layer}.self_attn.{{p:q|k|v}}_proj", "blocks/{p}"),
      (f"{layer}.self_attn.out_proj", "blocks/o"),
      (f"{layer}.mlp.fc1", "blocks/ffn_in"),
      (f"{layer}.mlp.fc2", "blocks/ffn_out"),
  ):
    rules += weights.dense(theirs, ours)
  return rules


NAMES = names(14)
