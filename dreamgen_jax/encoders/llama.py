"""LLaMA 3 (arXiv 2407.21783) as a reader of prompts: tokens to states.

Pre-norm blocks of causal self-attention with rotary positions, fewer heads of
keys and values than of queries, and a gated feed-forward; nothing has a bias.
HunyuanVideo reads the states some blocks before the last, without a norm.
SmolLM2 (arXiv 2502.02737) is this network too; GR00T N1 reads the normed
states of its first twelve blocks.
"""

import dataclasses

import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from dreamgen_jax import errors, interfaces, types, weights
from dreamgen_jax.layers import attention, norm, rope, stack


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of a reader.

  Attributes:
    vocabulary: number of tokens.
    width, heads, head_dim, ffn, layers: of the blocks.
    kv_heads: heads of keys and values; a divisor of `heads`.
    skip: blocks between the states that are read and the last.
    theta: base of the rotary frequencies.
    epsilon: of the norms.
    dtype: of the computation.
    remat: see `layers.stack.repeat`.
    padding_attends: whether tokens outside the mask attend to what they may;
      flash attention leaves them what it knows without: nothing.
  """

  vocabulary: int
  width: int
  heads: int
  kv_heads: int
  head_dim: int
  ffn: int
  layers: int
  skip: int = 2
  theta: float = 500_000.0
  epsilon: float = 1e-5
  dtype: str = "float32"
  remat: str = "none"
  padding_attends: bool = dataclasses.field(
      default=True, metadata=interfaces.LATER)

  def __post_init__(self):
    if self.heads % self.kv_heads or self.skip > self.layers:
      raise errors.ConfigError(
          f"A LLaMA needs heads ({self.heads}) divisible by kv_heads "
          f"({self.kv_heads}) and no more skip ({self.skip}) than layers "
          f"({self.layers}).")


PRESETS = {
    # The vocabulary that LLaVA-LLaMA-3 padded LLaMA 3's 128,256 tokens to.
    "llava_llama3_8b": Config(128_320, 4096, 32, 8, 128, 14_336, 32),
    # SmolLM2-1.7B as Eagle 2 has it in GR00T N1: 12 of 24 blocks, 12 tokens
    # more than its 49,152, flash attention.
    "eagle2_smollm2_1_7b": Config(
        49_164, 2048, 32, 32, 64, 8192, 12, skip=0, theta=130_000.0,
        padding_attends=False),
}


class Block(nn.Module):
  """One layer; hands on the states that came before it, newest first."""

  config: Config

  @nn.compact
  def __call__(self, carry: tuple[types.Array, ...], mask: types.Array,
               cos: types.Array, sin: types.Array) -> tuple[types.Array, ...]:
    """(x [b,m,d], earlier ones) -> (new x, x, earlier ones but the oldest)."""
    c, x = self.config, carry[0]

    def dense(features, name):
      return nn.Dense(features, use_bias=False, dtype=c.dtype, name=name)

    y = norm.RMSNorm(c.epsilon, name="attn_norm")(x)
    q = dense(c.heads * c.head_dim, "q")(y)
    k = dense(c.kv_heads * c.head_dim, "k")(y)
    v = dense(c.kv_heads * c.head_dim, "v")(y)
    q, k, v = (rearrange(y, "b m (n k) -> b m n k", k=c.head_dim)
               for y in (q, k, v))
    q, k = (rope.rotate_halves(y, cos, sin) for y in (q, k))
    group = c.heads // c.kv_heads  # queries that share a key and a value
    k, v = (jnp.repeat(y, group, axis=2) for y in (k, v))  # b m n k
    y = rearrange(attention.attend(q, k, v, mask), "b m n k -> b m (n k)")
    if not c.padding_attends:  # the diagonal says which tokens are padding
      real = jnp.diagonal(mask[:, 0], axis1=1, axis2=2)[..., None]  # b m 1
      y = jnp.where(real, y, 0)
    x = x + dense(c.width, "o")(y)

    y = norm.RMSNorm(c.epsilon, name="ffn_norm")(x)
    y = nn.silu(dense(c.ffn, "ffn_gate")(y)) * dense(c.ffn, "ffn_up")(y)
    x = x + dense(c.width, "ffn_out")(y)
    return (x, *carry[:-1])


class Decoder(nn.Module):
  """Tokens to states."""

  config: Config

  @nn.compact
  def __call__(
      self, tokens: types.Array, mask: types.Array,
      inserted: tuple[types.Array, types.Array] | None = None
  ) -> tuple[types.Array, types.Array]:
    """Reads prompts.

    Args:
      tokens: i32[b,m].
      mask: bool[b,m], True for a prompt's tokens; the others are before or
        behind them. Positions count from the row's begin in either case.
      inserted: (places bool[b,m], states [b,i,d]): what stands there instead
        of embedded tokens, in order.

    Returns:
      (states [b,m,d] before the last `skip` blocks; those after all, normed).
      Rows outside the mask mean nothing, unless their padding is read too.
    """
    c, length = self.config, tokens.shape[1]
    # Fresh words as large as what the blocks add to them, or that drowns them.
    x = nn.Embed(c.vocabulary, c.width, dtype=c.dtype, name="token",
                 embedding_init=nn.initializers.normal(1.0))(tokens)  # b m d
    if inserted is not None:
      places, states = inserted
      rows = jnp.clip(jnp.cumsum(places, axis=1) - 1, 0)[..., None]  # b m 1
      states = jnp.take_along_axis(states.astype(x.dtype), rows, axis=1)
      x = jnp.where(places[..., None], states, x)
    cos, sin = rope.grid((length,), (c.head_dim,), c.theta)
    causal = jnp.tril(jnp.ones((length, length), bool))
    mask = mask.astype(bool)[:, None, None] & causal  # b 1 m m
    states = stack.repeat(
        Block(c, name="blocks"), (x,) * (c.skip + 1), mask, cos, sin,
        depth=c.layers, remat=c.remat)
    return states[-1], norm.RMSNorm(c.epsilon, name="norm")(states[0])


def rules(prefix: str = "", path: str = "") -> list[weights.Rule]:
  """Hugging Face's names.

  Args:
    prefix: of the released names.
    path: prefix of ours, ending in "/" unless empty.
  """
  layer, ours = f"{prefix}layers.{{i}}", f"{path}blocks"
  return [
      weights.Rule(f"{prefix}embed_tokens.weight", f"{path}token/embedding"),
      *weights.norm(f"{prefix}norm", f"{path}norm", bias=False),
      *weights.norm(f"{layer}.input_layernorm", f"{ours}/attn_norm",
                    bias=False),
      *weights.norm(f"{layer}.post_attention_layernorm", f"{ours}/ffn_norm",
                    bias=False),
      *weights.dense(f"{layer}.self_attn.{{p:q|k|v|o}}_proj", f"{ours}/{{p}}",
                     bias=False),
      *weights.dense(f"{layer}.mlp.{{p:gate|up}}_proj", f"{ours}/ffn_{{p}}",
                     bias=False),
      *weights.dense(f"{layer}.mlp.down_proj", f"{ours}/ffn_out", bias=False),
  ]


# The file of the bare reader; that of the whole language model reads as well.
NAMES = [
    *rules(),
    *(dataclasses.replace(rule, spare=True) for rule in rules("model.")),
    weights.Ignore(r"lm_head\.weight", "it predicts tokens; states are read"),
]
