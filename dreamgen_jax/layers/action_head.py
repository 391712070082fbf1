"""The flow-matching action head of the GR00T family (arXiv 2503.14734).

Shared by the inverse dynamics model and the GR00T N1 policy:

  context  f32[b,l,d] -> Refine (pre-norm self-attention) -> context
  noisy chunk f32[b,u,a], time -> ActionEncoder -> + positions -> [b,u,d]
  -> DiT (even blocks read the context, odd ones the chunk) -> [b,u,d]
  -> MlpByEmbodiment -> velocity f32[b,u,a]

Encoder and decoder have one set of weights per embodiment. Structure and
parameter names follow NVIDIA's Isaac-GR00T and GR00T-Dreams repositories; so
does the time: t = 1 - tau, 0 is noise, 1 is data, and velocity = data - noise.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from dreamgen_jax import types, weights
from dreamgen_jax.layers import attention, embed, norm, stack

TIME_DIM = 256
# (noisy chunks f32[b,u,a], steps i32[b]) -> velocities f32[b,u,a].
Denoise = Callable[[types.Array, types.Array], types.Array]


@dataclasses.dataclass(frozen=True)
class Sizes:
  """What all transformer blocks of a head have in common.

  Attributes:
    width: of the tokens.
    heads: attention heads, width / heads each.
    dropout: rate in training.
    train: whether dropout acts.
    dtype: compute dtype.
  """

  width: int
  heads: int
  dropout: float = 0.0
  train: bool = False
  dtype: str = "float32"


class Refine(nn.Module):
  """Pre-norm self-attention blocks, without positions and final norm."""

  sizes: Sizes
  depth: int

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b,l,d] -> [b,l,d]."""
    return stack.repeat(
        RefineBlock(self.sizes, name="blocks"), x, depth=self.depth)


class RefineBlock(nn.Module):
  """Self-attention and MLP, both after a learned layer norm."""

  sizes: Sizes

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[b,l,d] -> [b,l,d]."""
    y = norm.LayerNorm(1e-5, name="attention_norm")(x)
    x = x + Attention(self.sizes, name="attention")(y, y)
    y = norm.LayerNorm(1e-5, name="mlp_norm")(x)
    return x + Mlp(self.sizes, name="mlp")(y)


class DiT(nn.Module):
  """Chunk tokens under a diffusion time and a context.

  The blocks differ in where their keys come from, so they are not stacked.

  Attributes:
    sizes, depth: of the blocks.
    out_width: of the result; None keeps the blocks'.
  """

  sizes: Sizes
  depth: int
  out_width: int | None = None

  @nn.compact
  def __call__(self, x: types.Array, step: types.Array, context: types.Array,
               mask: types.Array | None = None) -> types.Array:
    """Runs the blocks.

    Args:
      x: [b,u,d].
      step: integer time i32[b].
      context: [b,l,d'].
      mask: bool[b,l], which of the context is attended; None is all of it.

    Returns:
      [b,u,out_width].
    """
    width, dtype = self.sizes.width, self.sizes.dtype
    time = embed.sinusoid(step, TIME_DIM, endpoint=True)  # b 256
    time = nn.Dense(width, name="time_in")(time)
    time = nn.Dense(width, name="time_out")(nn.silu(time))  # b d
    for i in range(self.depth):
      block = DiTBlock(self.sizes, name=f"block_{i}")
      x = block(x, time, *((context, mask) if i % 2 == 0 else (None, None)))
    # Here the shift comes first, in the blocks the scale.
    shift, scale = jnp.split(
        nn.Dense(2 * width, name="modulation")(nn.silu(time))[:, None], 2, -1)
    x = norm.LayerNorm(1e-6, affine=False, name="norm")(x)
    x = (x * (1 + scale) + shift).astype(x.dtype)
    return nn.Dense(self.out_width or width, dtype=dtype, name="out")(x)


class DiTBlock(nn.Module):
  """Attention after a norm that the time modulates, then a plain-norm MLP."""

  sizes: Sizes

  @nn.compact
  def __call__(self, x: types.Array, time: types.Array,
               context: types.Array | None,
               mask: types.Array | None) -> types.Array:
    """[b,u,d], [b,d], keys from context [b,l,d'] or, if None, from x."""
    scale, shift = jnp.split(
        nn.Dense(2 * self.sizes.width, name="modulation")(
            nn.silu(time))[:, None], 2, -1)
    y = norm.LayerNorm(1e-5, affine=False, name="attention_norm")(x)
    y = (y * (1 + scale) + shift).astype(x.dtype)
    x = x + Attention(self.sizes, name="attention")(
        y, y if context is None else context, mask)
    y = norm.LayerNorm(1e-5, affine=False, name="mlp_norm")(x)
    return x + Mlp(self.sizes, name="mlp")(y)


class Attention(nn.Module):
  """Multi-head attention with two dropouts on its result, as released."""

  sizes: Sizes

  @nn.compact
  def __call__(self, x: types.Array, context: types.Array,
               mask: types.Array | None = None) -> types.Array:
    """Queries [b,u,d], keys and values from [b,l,d'] -> [b,u,d]."""
    s = self.sizes

    def heads(name, x):
      x = nn.Dense(s.width, dtype=s.dtype, name=name)(x)
      return rearrange(x, "b l (n k) -> b l n k", n=s.heads)

    mask = None if mask is None else mask[:, None, None]  # b 1 1 l
    y = attention.attend(heads("q", x), heads("k", context),
                         heads("v", context), mask)
    y = rearrange(y, "b u n k -> b u (n k)")
    y = nn.Dense(s.width, dtype=s.dtype, name="o")(y)
    return _dropout(s, _dropout(s, y, "dropout"), "last_dropout")


class Mlp(nn.Module):
  """Width -> 4 width -> width, tanh-approximated GELU, two dropouts."""

  sizes: Sizes

  @nn.compact
  def __call__(self, x: types.Array) -> types.Array:
    """[...,d] -> [...,d]."""
    s = self.sizes
    x = nn.Dense(4 * s.width, dtype=s.dtype, name="in")(x)
    x = _dropout(s, jax.nn.gelu(x, approximate=True), "dropout")
    x = nn.Dense(s.width, dtype=s.dtype, name="out")(x)
    return _dropout(s, x, "last_dropout")


def _dropout(sizes, x, name):
  return nn.Dropout(
      sizes.dropout, deterministic=not sizes.train, name=name)(x)


class ByEmbodiment(nn.Module):
  """A linear layer with weights of its own for every embodiment."""

  features: int
  embodiments: int
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: types.Array, embodiment: types.Array) -> types.Array:
    """[b,u,d], rows i32[b] -> [b,u,features]."""
    # The release starts at a deviation of 0.02, about 1024 ** -0.5; a narrow
    # network would hardly see the chunk at that.
    kernel = self.param("kernel", nn.initializers.normal(x.shape[-1] ** -0.5),
                        (self.embodiments, x.shape[-1], self.features))
    bias = self.param("bias", nn.initializers.zeros,
                      (self.embodiments, self.features))
    kernel, bias = (jnp.asarray(leaf, self.dtype)[embodiment]
                    for leaf in (kernel, bias))  # b d features, b features
    y = jnp.einsum("bud,bde->bue", x.astype(self.dtype), kernel)
    return y + bias[:, None]


class ActionEncoder(nn.Module):
  """A noisy chunk and its time -> tokens, per embodiment."""

  width: int
  embodiments: int
  dtype: str = "float32"

  @nn.compact
  def __call__(self, action: types.Array, step: types.Array,
               embodiment: types.Array) -> types.Array:
    """[b,u,a], integer step i32[b], rows i32[b] -> [b,u,d]."""

    def linear(name, x):
      return ByEmbodiment(self.width, self.embodiments, self.dtype, name=name)(
          x, embodiment)

    x = linear("action", action)  # b u d
    time = embed.sinusoid(step, self.width, sin_first=True)[:, None]
    time = jnp.broadcast_to(time.astype(x.dtype), x.shape)
    x = nn.silu(linear("mix", jnp.concatenate([x, time], -1)))
    return linear("out", x)


class MlpByEmbodiment(nn.Module):
  """Two linear layers with a ReLU between: states in, velocities out.

  Attributes:
    features: of the result.
    width: between the layers.
    embodiments, dtype: see `ByEmbodiment`.
  """

  features: int
  width: int
  embodiments: int
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: types.Array, embodiment: types.Array) -> types.Array:
    """[b,u,d], rows i32[b] -> [b,u,features]."""
    x = nn.relu(
        ByEmbodiment(self.width, self.embodiments, self.dtype, name="in")(
            x, embodiment))
    return ByEmbodiment(
        self.features, self.embodiments, self.dtype, name="out")(
            x, embodiment)


def draw_times(rng: types.Array, count: int, power: float,
               scale: float) -> types.Array:
  """Times of training: 1 - x / scale with x of Beta(power, 1), f32[count]."""
  # The inverse of the distribution function of Beta(power, 1).
  x = jax.random.uniform(rng, (count,)) ** (1 / power)
  return (scale - x) / scale


def velocity_error(denoise: Denoise, action: types.Array, mask: types.Array,
                   noise: types.Array, t: types.Array,
                   buckets: int) -> types.Array:
  """Mean squared error of the velocity over the mask's entries.

  Args:
    denoise: the network.
    action, noise: f32[b,u,a].
    mask: bool[b,u,a], or the entries' shares in the mean.
    t: f32[b]; a little below 0 is possible.
    buckets: the network reads t * buckets, cut to an integer.
  """
  noisy = (1 - t)[:, None, None] * noise + t[:, None, None] * action
  velocity = denoise(noisy, (t * buckets).astype(jnp.int32))
  error = jnp.square(velocity - (action - noise))
  return jnp.sum(mask * error) / jnp.maximum(mask.sum(), 1e-6)


def euler(denoise: Denoise, noise: types.Array, steps: int,
          buckets: int) -> types.Array:
  """Equal Euler steps from noise f32[b,u,a] to chunks f32[b,u,a]."""
  times = jnp.asarray(
      [int(i / steps * buckets) for i in range(steps)], jnp.int32)

  def advance(x, time):
    return x + denoise(x, jnp.full(len(x), time)) / steps, None

  return jax.lax.scan(advance, noise, times)[0]


def names(source: str = "action_head", path: str = "") -> list[weights.Rule]:
  """The released names of a head's parts.

  They are `refine`, `dit`, `state_encoder`, `action_encoder`, `action_decoder`
  and `positions`, as far as a model has them.

  Args:
    source: prefix of the released names.
    path: prefix of ours, ending in "/" unless empty.
  """
  refine = f"{source}.vl_self_attention_model.transformer_blocks.{{i}}"
  dit, time = f"{source}.model", "timestep_encoder.timestep_embedder"
  rules = weights.norm(f"{refine}.norm1",
                       f"{path}refine/blocks/attention_norm")
  rules += weights.norm(f"{refine}.norm3", f"{path}refine/blocks/mlp_norm")
  for theirs, ours in ((refine, "refine/blocks"),
                       (f"{dit}.transformer_blocks.{{i}}", "dit/block_{i}")):
    rules += weights.dense(f"{theirs}.attn1.to_{{p:q|k|v}}",
                           f"{path}{ours}/attention/{{p}}")
    rules += weights.dense(f"{theirs}.attn1.to_out.0",
                           f"{path}{ours}/attention/o")
    rules += weights.dense(f"{theirs}.ff.net.0.proj", f"{path}{ours}/mlp/in")
    rules += weights.dense(f"{theirs}.ff.net.2", f"{path}{ours}/mlp/out")
  for theirs, ours in (
      (f"{time}.linear_1", "time_in"),
      (f"{time}.linear_2", "time_out"),
      ("transformer_blocks.{i}.norm1.linear", "block_{i}/modulation"),
      ("proj_out_1", "modulation"),
      ("proj_out_2", "out"),
  ):
    rules += weights.dense(f"{dit}.{theirs}", f"{path}dit/{ours}")
  rules.append(weights.Rule(
      f"{source}.position_embedding.weight", f"{path}positions"))
  for theirs, ours in (
      ("state_encoder.layer1", "state_encoder/in"),
      ("state_encoder.layer2", "state_encoder/out"),
      ("action_encoder.W1", "action_encoder/action"),
      ("action_encoder.W2", "action_encoder/mix"),
      ("action_encoder.W3", "action_encoder/out"),
      ("action_decoder.layer1", "action_decoder/in"),
      ("action_decoder.layer2", "action_decoder/out"),
  ):
    rules += [
        weights.Rule(f"{source}.{theirs}.W", f"{path}{ours}/kernel"),
        weights.Rule(f"{source}.{theirs}.b", f"{path}{ours}/bias"),
    ]
  return rules
