"""The Cosmos-Predict2 diffusion transformer (arXiv 2503.14492, its successor).

Patches of a latent video walk through blocks of self-attention, attention to
text and a feed-forward. The time of each latent frame shifts, scales and gates
all three: by one vector for all layers plus a low-rank one of each layer's
own. No linear layer has a bias. Source: cosmos-predict2
`models/text2image_dit.py` and `models/video2world_dit.py`.
"""

import dataclasses

import einops
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dreamgen_jax import errors, sharding
from dreamgen_jax.diffusion import reuse
from dreamgen_jax.layers import attention, embed, modulate, norm, rope, stack

BASE_HZ = 24.0  # video rate at which scaled temporal positions count by one


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of a transformer.

  Attributes:
    width, heads, layers, ffn: of the blocks; width is split over the heads.
    in_channels: latent channels, condition mask, padding mask.
    out_channels: channels of the predicted velocity.
    patch: latent frames, rows, columns of one token.
    text_dim, text_len: of the text states; all `text_len` rows are attended,
      zeros included, as the released weights are used to.
    rank: of each layer's own modulation.
    theta: base of the rotary frequencies.
    stretch: longest wavelength along t, h, w, as a multiple of the usual one.
    position_hz: video rate by which temporal positions are scaled to BASE_HZ,
      as diffusers' pipeline does (with 16, whatever the clip); None counts
      latent frames, as the checkpoints were trained.
    epsilon, head_epsilon: of the norms, and of those of queries and keys.
    dtype: of matrix products and of the residual stream.
    remat: see `layers.stack.repeat`.
  """

  width: int = 2048
  heads: int = 16
  layers: int = 28
  ffn: int = 8192
  in_channels: int = 18
  out_channels: int = 16
  patch: tuple[int, int, int] = (1, 2, 2)
  text_dim: int = 1024
  text_len: int = 512
  rank: int = 256
  theta: float = 10_000.0
  stretch: tuple[float, float, float] = (1.0, 3.0, 3.0)
  position_hz: float | None = None
  epsilon: float = 1e-6
  head_epsilon: float = 1e-6
  dtype: str = "float32"
  remat: str = "none"

  def __post_init__(self):
    if self.width % (2 * self.heads) or min(self.rope_dims) < 4:
      raise errors.ConfigError(
          f"width {self.width} does not split into {self.heads} heads of an "
          "even size of at least 12.")

  @property
  def head_dim(self) -> int:
    """Width of one head."""
    return self.width // self.heads

  @property
  def rope_dims(self) -> tuple[int, int, int]:
    """A head's dims that turn with t, h, w."""
    return rope.wan_dims(self.head_dim)


PRESETS = {
    "2b": Config(),
    "14b": Config(width=5120, heads=40, layers=36, ffn=20_480,
                  stretch=(20 / 24, 2.0, 2.0)),
}


def _dense(features: int, dtype: str, name: str,
           deviation: float | None = None) -> nn.Dense:
  """A linear layer; the deviation of fresh weights is 1 / sqrt(inputs)."""
  if deviation is None:
    init = nn.initializers.lecun_normal()
  else:
    init = nn.initializers.truncated_normal(deviation, lower=-3.0, upper=3.0)
  return nn.Dense(features, use_bias=False, dtype=dtype, kernel_init=init,
                  name=name)


class Modulation(nn.Module):
  """What one place in the network adds to the vectors that all share."""

  config: Config
  parts: int

  @nn.compact
  def __call__(self, time, shared):
    """Embedded time f32[b,g,d], f32[b,g,3d] -> parts of f32[b,g,d]."""
    c = self.config
    y = _dense(c.rank, "float32", "down")(nn.silu(time))  # b g rank
    width = self.parts * c.width
    y = _dense(width, "float32", "up", 0.0)(y) + shared[..., :width]
    return jnp.split(y, self.parts, axis=-1)


class Attention(nn.Module):
  """Attention to `context`; each head's queries and keys are normalised."""

  config: Config

  @nn.compact
  def __call__(self, x, context, cos=None, sin=None):
    """[b,l,d], [b,m,d'], f32[l,k/2] or None twice -> [b,l,d]."""
    c = self.config
    q = _dense(c.width, c.dtype, "q")(x)
    k = _dense(c.width, c.dtype, "k")(context)
    v = _dense(c.width, c.dtype, "v")(context)
    q, k, v = (einops.rearrange(y, "b l (n k) -> b l n k", n=c.heads)
               for y in (q, k, v))
    q = norm.RMSNorm(c.head_epsilon, name="q_norm")(q)
    k = norm.RMSNorm(c.head_epsilon, name="k_norm")(k)
    if cos is not None:
      q, k = (rope.rotate_halves(y, cos, sin) for y in (q, k))
      q, k, v = (sharding.constrain(y, "b l n k") for y in (q, k, v))
    x = attention.attend(q, k, v)
    x = einops.rearrange(x, "b l n k -> b l (n k)")
    return _dense(c.width, c.dtype, "o")(x)


class FeedForward(nn.Module):
  """Two linear layers around a GELU by the error function."""

  config: Config

  @nn.compact
  def __call__(self, x):
    """[b,l,d] -> [b,l,d]."""
    c = self.config
    x = nn.gelu(_dense(c.ffn, c.dtype, "ffn_in")(x), approximate=False)
    return _dense(c.width, c.dtype, "ffn_out",
                  (2 * c.layers * c.ffn) ** -0.5)(x)


class Block(nn.Module):
  """One layer; `time` and `shared` are the same for all."""

  config: Config

  @nn.compact
  def __call__(self, x, time, shared, text, cos, sin):
    """[b,l,d], f32[b,g,d], f32[b,g,3d], [b,m,d'], rotary -> [b,l,d]."""
    c = self.config
    for name, run in (
        ("self_attn", lambda y: Attention(c, name="self_attn")(y, y, cos, sin)),
        ("cross_attn", lambda y: Attention(c, name="cross_attn")(y, text)),
        ("mlp", FeedForward(c, name="mlp")),
    ):
      shift, scale, gate = Modulation(c, 3, name=f"{name}_modulation")(
          time, shared)
      y = norm.LayerNorm(c.epsilon, affine=False, dtype=jnp.float32,
                         name=f"{name}_norm")(x)
      y = run(modulate.shift_scale(y, shift, scale, c.dtype))
      x = x + modulate.gate(y, gate)
    return sharding.constrain(x, "b l d")


class Transformer(nn.Module):
  """Predicts the velocity, noise minus data, of a noisy latent video."""

  config: Config

  @nn.compact
  def __call__(self, latent: jax.Array, time: jax.Array,
               text: jax.Array,
               memory: reuse.Memory | None = None) -> jax.Array:
    """Runs the transformer.

    Args:
      latent: f32[b,t,h,w,c] with all `in_channels`.
      time: the diffusion time in [0, 1], f32[b]; or f32[b,t] when each latent
        frame has its own.
      text: f32[b,m,text_dim], zero past each prompt's end.
      memory: of a sampling run that skips blocks.

    Returns:
      f32[b,t,h,w,out_channels].

    Raises:
      DataError: text of another length than the config's.
    """
    c = self.config
    if text.shape[1] != c.text_len:
      raise errors.DataError(
          f"The text has {text.shape[1]} rows; this model's text_len is "
          f"{c.text_len}: pad with zeros.")
    pt, ph, pw = c.patch
    _, t, h, w, _ = latent.shape
    grid = (t // pt, h // ph, w // pw)

    x = einops.rearrange(latent, "b (t p) (h q) (w r) c -> "
                         "b (t h w) (c p q r)", p=pt, q=ph, r=pw)
    x = _dense(c.width, c.dtype, "patch")(x)  # b l d
    x = sharding.constrain(x, "b l d")

    # A token of several latent frames goes by the time of the first of them.
    time = time[:, ::pt] if time.ndim == 2 else time[:, None]  # b g
    wave = embed.sinusoid(time, c.width)  # b g d
    shared = nn.silu(_dense(c.width, "float32", "time_in")(wave))
    shared = _dense(3 * c.width, "float32", "time_out",
                    (3 * c.width) ** -0.5)(shared)  # b g 3d
    time = norm.RMSNorm(c.epsilon, name="time_norm")(wave)  # b g d

    cos, sin = self._rotary(grid)
    x = stack.remembered(self, lambda x: stack.repeat(
        Block(c, name="blocks"), x, time, shared, text, cos, sin,
        depth=c.layers, remat=c.remat), x, memory)

    shift, scale = Modulation(c, 2, name="head_modulation")(time, shared)
    x = norm.LayerNorm(c.epsilon, affine=False, dtype=jnp.float32,
                       name="head_norm")(x)
    x = modulate.shift_scale(x, shift, scale, c.dtype)
    x = _dense(pt * ph * pw * c.out_channels, c.dtype, "head")(x)
    # Unlike in the input, channels come last within a patch, frames before.
    return einops.rearrange(
        x.astype(jnp.float32), "b (t h w) (q r p c) -> b (t p) (h q) (w r) c",
        t=grid[0], h=grid[1], w=grid[2], p=pt, q=ph, r=pw)  # b t h w c

  def _rotary(self, grid):
    """(cos, sin), each f32[l, k/2]."""
    c = self.config
    theta = [c.theta * ratio ** (dim / (dim - 2))
             for ratio, dim in zip(c.stretch, c.rope_dims, strict=True)]
    positions = [np.arange(size, dtype=np.float64) for size in grid]
    if c.position_hz is not None:
      positions[0] *= BASE_HZ / c.position_hz
    return rope.grid(grid, c.rope_dims, theta, positions)
