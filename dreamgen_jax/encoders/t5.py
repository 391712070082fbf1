"""T5 encoders (Raffel et al., 2020): UMT5, T5 v1.1 and the first T5.

Text tokens to states. Position enters as a learned bias of the attention's
logits by bucketed distance; logits are not scaled; norms have no bias.
"""

import dataclasses
import math

import einops
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dreamgen_jax import interfaces, weights
from dreamgen_jax.layers import attention, norm, stack


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of an encoder.

  Attributes:
    vocabulary: number of tokens.
    width, heads, head_dim, ffn, layers: of the blocks; heads * head_dim need
      not be the width.
    gated: the feed-forward is gelu(a) * b; otherwise it is relu(a).
    bias_everywhere: every layer has its own position bias (UMT5); otherwise
      all share one.
    buckets, max_distance: of the position bias.
    epsilon: of the norms.
    dtype: of the computation.
    remat: see `layers.stack.repeat`.
  """

  vocabulary: int
  width: int
  heads: int
  head_dim: int
  ffn: int
  layers: int
  gated: bool = True
  bias_everywhere: bool = False
  buckets: int = 32
  max_distance: int = 128
  epsilon: float = 1e-6
  dtype: str = "float32"
  remat: str = "none"


PRESETS = {
    "umt5_xxl": Config(256_384, 4096, 64, 64, 10_240, 24,
                       bias_everywhere=True),
    "t5_v11_xxl": Config(32_128, 4096, 64, 64, 10_240, 24),
    "t5_11b": Config(32_128, 1024, 128, 128, 65_536, 24, gated=False),
}


def buckets(length: int, count: int, max_distance: int) -> np.ndarray:
  """Bucket i32[l, m] of key m for query l.

  Half the buckets are for keys to the right. Of each half, the first half is
  one distance each, the rest grows geometrically up to `max_distance`.
  """
  distance = np.arange(length)[None, :] - np.arange(length)[:, None]  # l m
  half = count // 2
  exact = half // 2
  apart = np.abs(distance)
  # In float32, so that distances on a border fall as in the released code.
  far = np.log(np.maximum(apart, 1).astype(np.float32) / exact)
  far = far / np.float32(math.log(max_distance / exact)) * (half - exact)
  far = np.minimum(exact + far.astype(np.int32), half - 1)
  return (distance > 0) * half + np.where(apart < exact, apart, far)


class PositionBias(nn.Module):
  """A learned number per head and bucket of distance."""

  config: Config

  @nn.compact
  def __call__(self, length: int) -> jax.Array:
    """f32[1, n, l, l]."""
    c = self.config
    table = self.param("embedding",
                       nn.initializers.normal(c.width ** -0.5),
                       (c.buckets, c.heads))
    bias = table[buckets(length, c.buckets, c.max_distance)]  # l m n
    return einops.rearrange(bias, "l m n -> 1 n l m").astype(jnp.float32)


class Block(nn.Module):
  """Self-attention and a feed-forward, each behind a norm."""

  config: Config

  @nn.compact
  def __call__(self, x, bias, mask):
    """[b,m,d], f32[1,n,m,m] or None, bool[b,1,1,m] or None -> [b,m,d]."""
    c = self.config

    def dense(features, name, deviation):
      return nn.Dense(features, use_bias=False, dtype=c.dtype, name=name,
                      kernel_init=nn.initializers.normal(deviation))

    inner = c.heads * c.head_dim
    y = norm.RMSNorm(c.epsilon, name="attn_norm")(x)
    # Logits are not scaled, so the queries start out small.
    q = dense(inner, "q", (c.width * c.head_dim) ** -0.5)(y)
    k = dense(inner, "k", c.width ** -0.5)(y)
    v = dense(inner, "v", c.width ** -0.5)(y)
    q, k, v = (einops.rearrange(y, "b m (n k) -> b m n k", n=c.heads)
               for y in (q, k, v))
    if c.bias_everywhere:
      bias = PositionBias(c, name="position")(x.shape[1])
    y = attention.attend(q, k, v, mask, bias=bias, scale=1.0)
    y = einops.rearrange(y, "b m n k -> b m (n k)")
    x = x + dense(c.width, "o", inner ** -0.5)(y)

    y = norm.RMSNorm(c.epsilon, name="ffn_norm")(x)
    if c.gated:
      gate = nn.gelu(dense(c.ffn, "ffn_gate", c.width ** -0.5)(y))
      hidden = gate * dense(c.ffn, "ffn_up", c.width ** -0.5)(y)  # b m ffn
    else:
      hidden = nn.relu(dense(c.ffn, "ffn_in", c.width ** -0.5)(y))  # b m ffn
    return x + dense(c.width, "ffn_out", c.ffn ** -0.5)(hidden)  # b m d


class Encoder(nn.Module):
  """Tokens to states of the last layer, normalised."""

  config: Config

  @nn.compact
  def __call__(self, tokens: jax.Array,
               mask: jax.Array | None = None) -> jax.Array:
    """Runs the encoder.

    Args:
      tokens: i32[b,m].
      mask: bool[b,m], True for the prompt's tokens; None attends to all.

    Returns:
      [b,m,d]; rows past a prompt's end are not zero, see `zero_padding`.
    """
    c = self.config
    x = nn.Embed(c.vocabulary, c.width, dtype=c.dtype, name="token",
                 embedding_init=nn.initializers.normal(1.0))(tokens)  # b m d
    bias = None
    if not c.bias_everywhere:
      bias = PositionBias(c, name="position")(tokens.shape[1])
    if mask is not None:
      mask = mask.astype(bool)[:, None, None]  # b 1 1 m
    x = stack.repeat(Block(c, name="blocks"), x, bias, mask,
                     depth=c.layers, remat=c.remat)
    return norm.RMSNorm(c.epsilon, name="norm")(x)


def zero_padding(states: jax.Array, mask: jax.Array) -> jax.Array:
  """States [b,m,d] with the rows where mask bool[b,m] is False set to zero."""
  return jnp.where(mask.astype(bool)[..., None], states, 0)


def read(config: Config, params: interfaces.Params, ids: jax.Array,
         mask: jax.Array) -> jax.Array:
  """ids i32[b,m], mask bool[b,m] -> f32[b,m,d], zero past each prompt's end."""
  states = Encoder(config).apply({"params": params}, ids, mask)
  return zero_padding(states, mask).astype(jnp.float32)


_BLOCK = "encoder.block.{i}.layer"
_BIAS = "SelfAttention.relative_attention_bias.weight"

NAMES = [
    weights.Rule("shared.weight", "token/embedding"),
    # The same tensor; files that some tools saved have it left at zero.
    weights.Rule("encoder.embed_tokens.weight", "token/embedding", spare=True),
    *weights.norm("encoder.final_layer_norm", "norm", bias=False),
    weights.Rule(f"encoder.block.0.layer.0.{_BIAS}", "position/embedding"),
    weights.Rule(f"{_BLOCK}.0.{_BIAS}", "blocks/position/embedding"),
    *weights.dense(f"{_BLOCK}.0.SelfAttention.{{p:q|k|v|o}}", "blocks/{p}",
                   bias=False),
    *weights.norm(f"{_BLOCK}.0.layer_norm", "blocks/attn_norm", bias=False),
    *weights.norm(f"{_BLOCK}.1.layer_norm", "blocks/ffn_norm", bias=False),
    *weights.dense(f"{_BLOCK}.1.DenseReluDense.wi_0", "blocks/ffn_gate",
                   bias=False),
    *weights.dense(f"{_BLOCK}.1.DenseReluDense.wi_1", "blocks/ffn_up",
                   bias=False),
    *weights.dense(f"{_BLOCK}.1.DenseReluDense.wi", "blocks/ffn_in",
                   bias=False),
    *weights.dense(f"{_BLOCK}.1.DenseReluDense.wo", "blocks/ffn_out",
                   bias=False),
]
