"""The transformer of Diffusion Policy.

Source: Chi et al., arXiv 2303.04137, `TransformerForDiffusion` of
real-stanford/diffusion_policy. The steps of a chunk are tokens that read a
memory of the diffusion step and the observations, in their order: an action
looks at no later action and at no later observation. Without a memory the
diffusion step is the first token of a plain, unmasked encoder. As released but
for dropout, which spares the attention's weights.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from dreamgen_jax import errors
from dreamgen_jax.layers import attention, norm
from dreamgen_jax.policies.diffusion_policy import unet

_NORMAL = nn.initializers.normal(0.02)


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes; the defaults are the released ones.

  Attributes:
    width, depth, heads: of the blocks.
    memory_depth: encoder blocks over the memory; 0 is an MLP.
    causal: actions do not look ahead; see the module.
    dropout: of every branch, in training.
  """

  width: int = 256
  depth: int = 8
  heads: int = 4
  memory_depth: int = 0
  causal: bool = True
  dropout: float = 0.3

  def __post_init__(self):
    if self.width % self.heads or self.width % 2:
      raise errors.ConfigError(
          f"transformer.width = {self.width} must be even and divisible by "
          f"heads = {self.heads}.")


class Transformer(nn.Module):
  """Predicts the noise (or the clean chunk) of a noisy action chunk.

  Attributes:
    action_dim: width `a` of an action.
    config: sizes.
    dtype: compute dtype.
    train: whether dropout acts.
  """

  action_dim: int
  config: Config = Config()
  dtype: str = "float32"
  train: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, step: jax.Array,
               seen: jax.Array | None = None) -> jax.Array:
    """Noisy chunk [b, u, a], step [b] -> f32[b, u, a].

    Args:
      x: noisy normalised actions.
      step: diffusion step, 0 (nearly clean) to T - 1.
      seen: a token per observation [b, o, e]; None has no memory at all.
    """
    c, u = self.config, x.shape[1]
    time = unet.step_embedding(step, c.width)[:, None].astype(self.dtype)
    x = self._dense("action", c.width, x.astype(self.dtype))  # b u d
    if seen is None:
      x = self._placed("positions", jnp.concatenate([time, x], axis=1))
      for i in range(c.depth):
        x = Block(c, self.dtype, self.train, name=f"block_{i}")(x)
      x = x[:, 1:]
    else:
      seen = self._dense("observation", c.width, seen.astype(self.dtype))
      memory = self._placed(
          "memory_positions", jnp.concatenate([time, seen], axis=1))
      if c.memory_depth:
        for i in range(c.memory_depth):
          memory = Block(c, self.dtype, self.train, name=f"memory_{i}")(memory)
      else:
        memory = self._dense("memory_in", 4 * c.width, memory)
        memory = self._dense("memory_out", c.width, jax.nn.mish(memory))
      own = past = None
      if c.causal:
        now = np.arange(u)[:, None]
        own = now >= np.arange(u)  # u u
        past = now + 1 >= np.arange(memory.shape[1])  # u 1+o; the time first
      x = self._placed("positions", x)
      for i in range(c.depth):
        x = Block(c, self.dtype, self.train, name=f"block_{i}")(
            x, own, memory, past)
    x = norm.LayerNorm(1e-5, name="norm")(x)
    return self._dense("out", self.action_dim, x).astype(jnp.float32)

  def _dense(self, name, features, x):
    return nn.Dense(features, dtype=self.dtype, kernel_init=_NORMAL,
                    name=name)(x)

  def _placed(self, name, x):
    positions = self.param(name, _NORMAL, x.shape[1:])
    return x + positions.astype(x.dtype)


class Block(nn.Module):
  """Pre-norm attention to itself, to a memory if there is one, and MLP."""

  config: Config
  dtype: str
  train: bool

  @nn.compact
  def __call__(self, x: jax.Array, own: np.ndarray | None = None,
               memory: jax.Array | None = None,
               past: np.ndarray | None = None) -> jax.Array:
    """[b, l, d], masks bool[l, l] and bool[l, m], memory [b, m, d]."""
    c = self.config

    def drop(name, y):
      return nn.Dropout(
          c.dropout, deterministic=not self.train, name=name)(y)

    y = norm.LayerNorm(1e-5, name="self_norm")(x)
    x = x + drop("self_drop", Attention(
        c.heads, self.dtype, name="self")(y, y, own))
    if memory is not None:
      y = norm.LayerNorm(1e-5, name="cross_norm")(x)
      x = x + drop("cross_drop", Attention(
          c.heads, self.dtype, name="cross")(y, memory, past))
    y = norm.LayerNorm(1e-5, name="mlp_norm")(x)
    y = nn.Dense(4 * c.width, dtype=self.dtype, kernel_init=_NORMAL,
                 name="in")(y)
    y = drop("inner_drop", jax.nn.gelu(y, approximate=False))
    y = nn.Dense(c.width, dtype=self.dtype, kernel_init=_NORMAL,
                 name="out")(y)
    return x + drop("mlp_drop", y)


class Attention(nn.Module):
  """Queries from [b, l, d], keys and values from [b, m, d] -> [b, l, d]."""

  heads: int
  dtype: str

  @nn.compact
  def __call__(self, x: jax.Array, context: jax.Array,
               mask: np.ndarray | None) -> jax.Array:

    def dense(name, y):
      return nn.Dense(x.shape[-1], dtype=self.dtype, kernel_init=_NORMAL,
                      name=name)(y)

    q, k, v = (rearrange(dense(name, y), "b l (n k) -> b l n k", n=self.heads)
               for name, y in (("q", x), ("k", context), ("v", context)))
    y = attention.attend(q, k, v, None if mask is None else jnp.asarray(mask))
    return dense("o", rearrange(y, "b l n k -> b l (n k)"))
