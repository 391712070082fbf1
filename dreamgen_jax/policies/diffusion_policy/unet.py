"""The conditional one-dimensional U-Net of Diffusion Policy.

Source: Chi et al., arXiv 2303.04137, `ConditionalUnet1D` of
real-stanford/diffusion_policy. A chunk of actions is a short signal over
time: two stride-2 levels down and up, FiLM in every residual block from the
diffusion step and the observation. Channels last throughout: [b, u, a].
"""

import math
from collections.abc import Sequence

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

GROUP_EPSILON = 1e-5


def step_embedding(step: jax.Array, width: int) -> jax.Array:
  """Sinusoids of a diffusion step: [b] -> f32[b, width], sines first.

  The slowest frequency is exactly 1e-4 (the exponent's denominator is
  width / 2 - 1), which is not the usual transformer table.
  """
  half = width // 2
  rate = jnp.exp(jnp.arange(half) * (-math.log(1e4) / (half - 1)))
  angle = step.astype(jnp.float32)[:, None] * rate  # b half
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)  # b width


def _scale_one_bias_zero(rng, shape, dtype=jnp.float32):
  """FiLM starts as the identity although it multiplies by scale, not 1+scale.
  """
  del rng
  half = shape[0] // 2
  return jnp.concatenate([jnp.ones(half, dtype), jnp.zeros(half, dtype)])


class Conv1D(nn.Module):
  """Convolution over time as one matrix product: [b, u, c] -> [b, u', width].

  The chunk is a handful of steps long; XLA's convolution of a signal shorter
  than its kernel is a hundred times slower on CPU, and on accelerators the
  product is as good.

  Attributes:
    width: output channels.
    kernel: taps; pad zeros on both sides.
    stride: of the output.
    transposed: instead spreads each input over `stride` outputs; the kernel
      is then [taps, width, c], the layout of a transposed convolution.
  """

  width: int
  kernel: int
  pad: int
  stride: int = 1
  transposed: bool = False
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    c = x.shape[-1]
    channels = (self.width, c) if self.transposed else (c, self.width)
    in_axis, out_axis = (-1, -2) if self.transposed else (-2, -1)
    kernel = self.param(
        "kernel",
        nn.initializers.lecun_normal(in_axis=in_axis, out_axis=out_axis),
        (self.kernel, *channels)).astype(self.dtype)
    bias = self.param("bias", nn.initializers.zeros, (self.width,))
    pad, stride = self.pad, self.stride
    if self.transposed:  # an ordinary convolution of the stretched signal
      zeros = jnp.zeros((*x.shape[:2], stride - 1, c), x.dtype)
      x = jnp.concatenate([x[:, :, None], zeros], axis=2)
      x = einops.rearrange(x, "b u stride c -> b (u stride) c")
      x = x[:, :x.shape[1] - (stride - 1)]
      kernel = jnp.flip(einops.rearrange(kernel, "k o c -> k c o"), axis=0)
      pad, stride = self.kernel - 1 - pad, 1
    x = jnp.pad(x, ((0, 0), (pad, pad), (0, 0)))
    count = (x.shape[1] - self.kernel) // stride + 1
    taps = [
        x[:, tap:tap + stride * (count - 1) + 1:stride]
        for tap in range(self.kernel)
    ]
    x = jnp.concatenate(taps, axis=-1)  # b u' kernel*c
    kernel = einops.rearrange(kernel, "k c o -> (k c) o")
    return x @ kernel + bias.astype(self.dtype)  # b u' width


def mish(x: jax.Array) -> jax.Array:
  """x tanh(log(1 + e^x)) by one exponential where that takes three."""
  e = jnp.exp(jnp.minimum(x, 20.0))  # beyond, the factor is 1
  e = e * (e + 2)
  return x * (e / (e + 2))


class ConvBlock(nn.Module):
  """Convolution over time, GroupNorm, Mish: [b, u, c] -> [b, u, width]."""

  width: int
  kernel: int
  groups: int
  dtype: str

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = Conv1D(self.width, self.kernel, self.kernel // 2, dtype=self.dtype,
               name="conv")(x)
    x = nn.GroupNorm(self.groups, epsilon=GROUP_EPSILON, dtype=self.dtype,
                     name="norm")(x)
    return mish(x)


class ResidualBlock(nn.Module):
  """Two ConvBlocks with FiLM between: [b, u, c], [b, e] -> [b, u, width]."""

  width: int
  kernel: int
  groups: int
  predict_scale: bool
  dtype: str

  @nn.compact
  def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
    y = ConvBlock(self.width, self.kernel, self.groups, self.dtype,
                  name="block_0")(x)
    if self.predict_scale:
      film = nn.Dense(2 * self.width, dtype=self.dtype,
                      bias_init=_scale_one_bias_zero, name="film")(
                          mish(condition))
      scale, bias = jnp.split(film[:, None], 2, axis=-1)  # b 1 width, twice
      y = scale * y + bias
    else:
      y += nn.Dense(self.width, dtype=self.dtype, name="film")(
          mish(condition))[:, None]
    y = ConvBlock(self.width, self.kernel, self.groups, self.dtype,
                  name="block_1")(y)
    if x.shape[-1] != self.width:
      x = Conv1D(self.width, 1, 0, dtype=self.dtype, name="skip")(x)
    return x + y


class ConditionalUnet1D(nn.Module):
  """Predicts the noise (or the clean chunk) of a noisy action chunk.

  Attributes:
    action_dim: width `a` of an action.
    widths: channels per level; u must be divisible by 2 ** (levels - 1).
    step_width: width of the diffusion step's embedding.
    kernel, groups: of every convolution block.
    predict_scale: FiLM scales and shifts if true, else only shifts.
    dtype: compute dtype.
  """

  action_dim: int
  widths: Sequence[int]
  step_width: int = 256
  kernel: int = 5
  groups: int = 8
  predict_scale: bool = True
  dtype: str = "float32"

  @nn.compact
  def __call__(
      self,
      x: jax.Array,
      step: jax.Array,
      condition: jax.Array | None = None,
      local: jax.Array | None = None,
  ) -> jax.Array:
    """Noisy chunk [b, u, a], step [b] -> f32[b, u, a].

    Args:
      x: noisy normalised actions.
      step: diffusion step, 0 (nearly clean) to T - 1.
      condition: global condition [b, e], or None.
      local: condition per chunk step [b, u, e], or None.
    """

    def residual(name, width):
      return ResidualBlock(width, self.kernel, self.groups, self.predict_scale,
                           self.dtype, name=name)

    embed = step_embedding(step, self.step_width)
    embed = nn.Dense(4 * self.step_width, name="step_in")(embed)
    embed = nn.Dense(self.step_width, name="step_out")(mish(embed))
    if condition is not None:
      embed = jnp.concatenate([embed, condition], axis=-1)  # b step_width+e
    embed = embed.astype(self.dtype)
    x = x.astype(self.dtype)

    near = None
    if local is not None:
      near = residual("local_0", self.widths[0])(local, embed)
      # Computed for its parameters' sake: the released net means to add it on
      # the way up but compares with an index that is never reached.
      residual("local_1", self.widths[0])(local, embed)

    skips = []
    last = len(self.widths) - 1
    for i, width in enumerate(self.widths):
      x = residual(f"down_{i}_0", width)(x, embed)
      if i == 0 and near is not None:
        x += near
      x = residual(f"down_{i}_1", width)(x, embed)
      skips.append(x)
      if i < last:
        x = Conv1D(width, 3, 1, stride=2, dtype=self.dtype,
                   name=f"down_{i}")(x)  # b u/2 width
    for i in range(2):
      x = residual(f"middle_{i}", self.widths[-1])(x, embed)
    # The first level's skip stays unused, as released.
    for i, width in enumerate(reversed(self.widths[:-1])):
      x = jnp.concatenate([x, skips.pop()], axis=-1)  # b u 2c
      x = residual(f"up_{i}_0", width)(x, embed)
      x = residual(f"up_{i}_1", width)(x, embed)
      x = Conv1D(width, 4, 1, stride=2, transposed=True, dtype=self.dtype,
                 name=f"up_{i}")(x)  # b 2u width
    x = ConvBlock(self.widths[0], self.kernel, self.groups, self.dtype,
                  name="final_block")(x)
    x = Conv1D(self.action_dim, 1, 0, dtype=self.dtype, name="final")(x)
    return x.astype(jnp.float32)  # b u a
