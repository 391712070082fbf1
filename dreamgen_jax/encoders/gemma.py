"""Gemma (arXiv 2403.08295), alone or several as experts that attend together.

Pre-norm blocks of self-attention with rotary positions and few heads of keys
and values, and a gated feed-forward; nothing has a bias, and norms learn their
scale's difference from 1. Experts are Gemmas whose tokens share one attention
per block and nothing else: each has its own width, norms and weights. In an
adaptive expert a vector per sample scales, shifts and gates instead of the
norms' scales. Source: openpi's joint Gemma, as in pi0 (arXiv 2410.24164).
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn

from dreamgen_jax import errors, types
from dreamgen_jax.layers import attention, norm, rope, stack

# Keys and values [b, l, n, k] of tokens, of every block [depth, ...].
Memory = tuple[types.Array, types.Array]


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of one expert.

  Attributes:
    width, depth, ffn, heads, head_dim: of the blocks.
    kv_heads: heads of keys and values; a divisor of `heads`.
    adaptive: a vector modulates the norms.
  """

  width: int
  depth: int
  ffn: int
  heads: int
  kv_heads: int
  head_dim: int
  adaptive: bool = False

  def __post_init__(self):
    if self.heads % self.kv_heads or self.head_dim % 2:
      raise errors.ConfigError(
          f"A Gemma needs heads ({self.heads}) divisible by kv_heads "
          f"({self.kv_heads}) and an even head_dim ({self.head_dim}).")


PRESETS = {
    "gemma_2b": Config(2048, 18, 16_384, 8, 1, 256),
    "gemma_300m": Config(1024, 18, 4096, 8, 1, 256),
}


class Words(nn.Module):
  """Token ids to vectors, times the root of the width."""

  vocabulary: int
  width: int
  dtype: str = "float32"

  @nn.compact
  def __call__(self, tokens: types.Array) -> types.Array:
    """i32[b,m] -> [b,m,d]."""
    x = nn.Embed(self.vocabulary, self.width, dtype=self.dtype, name="token",
                 embedding_init=nn.initializers.normal(self.width**-0.5))(
                     tokens)
    return x * jnp.sqrt(jnp.float32(self.width)).astype(x.dtype)


class Experts(nn.Module):
  """The blocks of experts that attend together.

  Attributes:
    names: of the experts, for their parameters.
    configs: of the experts; equal in all that attention sees.
    dtype: compute dtype.
    remat: see `layers.stack.repeat`.
  """

  names: tuple[str, ...]
  configs: tuple[Config, ...]
  dtype: str = "float32"
  remat: str = "none"

  @nn.compact
  def __call__(
      self, tokens: tuple[types.Array | None, ...], mask: types.Array,
      positions: types.Array,
      conditions: tuple[types.Array | None, ...] | None = None,
      memory: Memory | None = None, remember: bool = False,
  ) -> tuple[tuple[types.Array | None, ...], Memory | None]:
    """Runs the blocks.

    Args:
      tokens: [b,l,d] of each expert; None where it has none.
      mask: bool[b,l,m]: which of the memory's and then of all experts' tokens
        each token attends to.
      positions: i32[b,l] of all experts' tokens.
      conditions: of each expert, f32[b,d] if it is adaptive, else None.
      memory: of tokens that were here before.
      remember: also return a memory.

    Returns:
      (tokens of each expert after its last norm, memory of these tokens).
    """
    first = self.configs[0]
    conditions = conditions or (None,) * len(tokens)
    tokens = tuple(None if x is None else x.astype(self.dtype) for x in tokens)
    block = Block(self.names, self.configs, self.dtype, remember,
                  name="blocks")
    tokens, memory = stack.repeat_remembering(
        block, tokens, memory, mask[:, None],
        *rope.at(positions, first.head_dim), conditions, depth=first.depth,
        remat=self.remat)
    return tuple(
        None if x is None else Norm(name=f"{name}_norm")(x, condition)[0]
        for name, x, condition in zip(
            self.names, tokens, conditions, strict=True)), memory


class Block(nn.Module):
  """One layer of all experts."""

  names: tuple[str, ...]
  configs: tuple[Config, ...]
  dtype: str
  remember: bool

  @nn.compact
  def __call__(self, tokens, memory, mask, cos, sin, conditions):
    """See `Experts`; the mask is bool[b,1,l,m], the memory one block's."""
    present = [
        (name, c, x, condition) for name, c, x, condition in zip(
            self.names, self.configs, tokens, conditions, strict=True)
        if x is not None]
    parts, gates = zip(*(
        Before(c, self.dtype, name=f"{name}_before")(x, condition)
        for name, c, x, condition in present), strict=True)
    q, k, v = (jnp.concatenate(part, axis=1)
               for part in zip(*parts, strict=True))
    q, k = (rope.rotate_halves(y, cos, sin) for y in (q, k))
    own = (k, v) if self.remember else None
    if memory is not None:
      k, v = (jnp.concatenate(both, axis=1)
              for both in zip(memory, (k, v), strict=True))
    group = q.shape[2] // k.shape[2]  # queries that share a key and a value
    k, v = (jnp.repeat(y, group, axis=2) for y in (k, v))  # b m n k
    y = rearrange(attention.attend(q, k, v, mask), "b l n k -> b l (n k)")
    done, start = {}, 0
    for (name, c, x, condition), gate in zip(present, gates, strict=True):
      end = start + x.shape[1]
      done[name] = After(c, self.dtype, name=f"{name}_after")(
          x, y[:, start:end], gate, condition)
      start = end
    return tuple(done.get(name) for name in self.names), own


class Before(nn.Module):
  """What an expert does before attention: norm, queries, keys, values."""

  config: Config
  dtype: str

  @nn.compact
  def __call__(self, x, condition):
    """[b,l,d] -> ((q [b,l,n,k], k and v with fewer heads), gate or None)."""
    c = self.config
    y, gate = Norm(name="norm")(x, condition)

    def heads(name, count):
      z = nn.Dense(count * c.head_dim, use_bias=False, dtype=self.dtype,
                   name=name)(y)
      return rearrange(z, "b l (n k) -> b l n k", n=count)

    return (heads("q", c.heads), heads("k", c.kv_heads),
            heads("v", c.kv_heads)), gate


class After(nn.Module):
  """What an expert does after attention: output, feed-forward."""

  config: Config
  dtype: str

  @nn.compact
  def __call__(self, x, attended, gate, condition):
    """[b,l,d], [b,l,n*k] -> [b,l,d]."""
    c = self.config

    def dense(features, name):
      return nn.Dense(features, use_bias=False, dtype=self.dtype, name=name)

    x = x + _gated(dense(c.width, "o")(attended), gate)
    y, gate = Norm(name="norm")(x, condition)
    y = (jax.nn.gelu(dense(c.ffn, "ffn_gate")(y), approximate=True)
         * dense(c.ffn, "ffn_up")(y))
    return x + _gated(dense(c.width, "ffn_out")(y), gate)


def _gated(x: types.Array, gate: types.Array | None) -> types.Array:
  return x if gate is None else (x * gate).astype(x.dtype)


class Norm(nn.Module):
  """RMS norm, with a learned scale or one that follows from a condition."""

  @nn.compact
  def __call__(
      self, x: types.Array, condition: types.Array | None
  ) -> tuple[types.Array, types.Array | None]:
    """[b,l,d], [b,d] -> (normed [b,l,d], gate f32[b,1,d])."""
    y = norm.rms(x)
    if condition is None:
      scale = self.param("scale", nn.initializers.zeros, x.shape[-1:])
      return (y * (1 + scale)).astype(x.dtype), None
    scale, shift, gate = jnp.split(
        nn.Dense(3 * x.shape[-1], kernel_init=nn.initializers.zeros,
                 name="modulation")(condition)[:, None], 3, axis=-1)
    return (y * (1 + scale) + shift).astype(x.dtype), gate


def block_mask(valid: types.Array, blocks: Sequence[int]) -> types.Array:
  """Tokens attend to their own block and to those before it.

  Args:
    valid: bool[b,l]; others are not attended, and attend to nothing.
    blocks: sizes of the blocks, in order; they sum to l.

  Returns:
    bool[b,l,l].
  """
  number = np.repeat(np.arange(len(blocks)), blocks)  # l
  return (number[None] <= number[:, None]) & (
      valid[:, None] & valid[:, :, None])


def positions(valid: types.Array) -> types.Array:
  """bool[b,l] -> i32[b,l]: how many valid tokens stand before each."""
  return jnp.cumsum(valid, axis=1, dtype=jnp.int32) - 1
