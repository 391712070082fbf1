"""The CogVideoX diffusion transformer (arXiv 2408.06072), 1.0 and 1.5.

Text tokens and patches of a latent video form one sequence, text first, that
walks through blocks of joint attention and a feed-forward with shared weights.
The diffusion time scales, shifts and gates the two streams differently. Video
tokens turn with their place in the grid; text tokens do not turn. CogVideoX 1.0
adds a stored position to each token, 1.5 a constant "offset" to the time.
"""

import dataclasses
import math

import einops
import jax
import jax.numpy as jnp
from flax import linen as nn

from dreamgen_jax import errors, sharding
from dreamgen_jax.diffusion import reuse
from dreamgen_jax.layers import attention, embed, norm, rope, stack

OFFSET = 2.0  # the only value that the 1.5 weights have seen
_XAVIER = nn.initializers.xavier_uniform()
_ZEROS = nn.initializers.zeros_init()


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of a transformer.

  Attributes:
    width, heads, layers: of the blocks; the feed-forward is 4 widths wide.
    in_channels: noisy latent and condition.
    out_channels: channels of the predicted v.
    patch: latent frames, rows, columns of one token.
    text_dim, text_len: of the text states; padding is attended.
    time_dim: of the time's embedding.
    positions: tokens (text and video) that have a stored position, which fixes
      the size of the clip; None has none.
    offset: whether there is an embedding of OFFSET.
    epsilon: of the norms.
    dtype: of matrix products and of the residual stream.
    remat: see `layers.stack.repeat`.
  """

  width: int = 3072
  heads: int = 48
  layers: int = 42
  in_channels: int = 32
  out_channels: int = 16
  patch: tuple[int, int, int] = (1, 2, 2)
  text_dim: int = 4096
  text_len: int = 226
  time_dim: int = 512
  positions: int | None = None
  offset: bool = False
  epsilon: float = 1e-5
  dtype: str = "float32"
  remat: str = "none"

  def __post_init__(self):
    if self.width % (16 * self.heads):
      raise errors.ConfigError(
          f"width {self.width} does not split into {self.heads} heads of a "
          "multiple of 16, as the rotary positions need.")

  @property
  def head_dim(self) -> int:
    """Width of one head."""
    return self.width // self.heads

  @property
  def rotary(self) -> tuple[int, int, int]:
    """A head's dims that turn with (t, h, w)."""
    space = 3 * self.head_dim // 8
    return self.head_dim - 2 * space, space, space


PRESETS = {
    # 49 frames of 480x720 pixels: 13 latent frames of 30x45 patches.
    "cogvideox_5b_i2v": Config(positions=226 + 13 * 30 * 45),
    "cogvideox1_5_5b_i2v": Config(patch=(2, 2, 2), offset=True),
}


def _dense(features: int, dtype: str, name: str, init=_XAVIER) -> nn.Dense:
  return nn.Dense(features, dtype=dtype, kernel_init=init, name=name)


class Modulation(nn.Module):
  """An affine norm whose result the time scales and shifts, per stream."""

  config: Config

  @nn.compact
  def __call__(self, x, time, is_text):
    """[b,l,d], f32[b,time_dim], bool[l,1] -> [b,l,d], gate f32[b,l,d]."""
    c = self.config
    parts = _dense(6 * c.width, "float32", "linear", _ZEROS)(nn.silu(time))
    video, text = jnp.split(parts[:, None], 2, axis=-1)  # b 1 3d
    shift, scale, gate = jnp.split(
        jnp.where(is_text, text, video), 3, axis=-1)  # b l d
    y = norm.LayerNorm(c.epsilon, dtype=jnp.float32, name="norm")(x)
    return (y * (1 + scale) + shift).astype(c.dtype), gate


class Attention(nn.Module):
  """Attention among all tokens, text and video."""

  config: Config

  @nn.compact
  def __call__(self, x, cos, sin):
    """[b,l,d], f32[l,k/2], f32[l,k/2] -> [b,l,d]."""
    c = self.config

    def heads(name):
      y = _dense(c.width, c.dtype, name)(x)
      return einops.rearrange(y, "b l (n k) -> b l n k", n=c.heads)

    q = norm.LayerNorm(1e-6, name="q_norm")(heads("q"))
    k = norm.LayerNorm(1e-6, name="k_norm")(heads("k"))
    q, k = (rope.rotate_pairs(y, cos, sin) for y in (q, k))
    q, k, v = (sharding.constrain(y, "b l n k") for y in (q, k, heads("v")))
    y = einops.rearrange(attention.attend(q, k, v), "b l n k -> b l (n k)")
    return _dense(c.width, c.dtype, "o")(y)


class Block(nn.Module):
  """One layer: joint attention and a feed-forward, both gated."""

  config: Config

  @nn.compact
  def __call__(self, x, time, is_text, cos, sin):
    """[b,l,d], f32[b,time_dim], bool[l,1], rotary -> [b,l,d]."""
    c = self.config
    y, gate = Modulation(c, name="attn_norm")(x, time, is_text)
    y = Attention(c, name="attn")(y, cos, sin)
    x = x + (gate * y).astype(x.dtype)

    y, gate = Modulation(c, name="ffn_norm")(x, time, is_text)
    y = nn.gelu(_dense(4 * c.width, c.dtype, "ffn_in")(y))  # b l 4d
    y = _dense(c.width, c.dtype, "ffn_out")(y)  # b l d
    x = x + (gate * y).astype(x.dtype)
    return sharding.constrain(x, "b l d")


class Transformer(nn.Module):
  """Predicts v of a noisy latent video (see `diffusion.v_prediction`)."""

  config: Config

  @nn.compact
  def __call__(self, latent: jax.Array, time: jax.Array,
               text: jax.Array,
               memory: reuse.Memory | None = None) -> jax.Array:
    """Runs the transformer.

    Args:
      latent: f32[b,t,h,w,c] with all `in_channels`.
      time: the diffusion step, 0 to 999, f32[b].
      text: f32[b,m,text_dim]; all rows are attended.
      memory: of a sampling run that skips blocks.

    Returns:
      f32[b,t,h,w,out_channels].

    Raises:
      DataError: text of another length than the config's, or a clip of
        another size than the stored positions.
    """
    c = self.config
    if text.shape[1] != c.text_len:
      raise errors.DataError(
          f"The text has {text.shape[1]} rows; this model's text_len is "
          f"{c.text_len}: pad it.")
    pt, ph, pw = c.patch
    _, t, h, w, _ = latent.shape
    grid = (t // pt, h // ph, w // pw)
    length = c.text_len + math.prod(grid)
    if c.positions not in (None, length):
      raise errors.DataError(
          f"A latent of {t}x{h}x{w} and its text are {length} tokens; this "
          f"model has positions for {c.positions}, and works at that size "
          "alone.")

    time = self._embed("time", time, c.width)
    if c.offset:
      offset = jnp.full(time.shape[:1], OFFSET)
      time = time + self._embed("offset", offset, c.time_dim)  # b time_dim

    x = einops.rearrange(latent, "b (t p) (h q) (w r) c -> "
                         "b (t h w) (c p q r)", p=pt, q=ph, r=pw)
    x = _dense(c.width, c.dtype, "patch")(x)
    x = jnp.concatenate([_dense(c.width, c.dtype, "text")(text), x], 1)  # b l d
    if c.positions:
      # A stored table, not a trained one: the release keeps it fixed.
      table = self.param("positions", _ZEROS, (c.positions, c.width))
      x = x + jax.lax.stop_gradient(table).astype(x.dtype)
    x = sharding.constrain(x, "b l d")

    is_text = (jnp.arange(length) < c.text_len)[:, None]
    cos, sin = rope.grid(grid, c.rotary)
    front = ((c.text_len, 0), (0, 0))
    cos = jnp.pad(cos, front, constant_values=1.0)  # l k/2
    sin = jnp.pad(sin, front)
    x = stack.remembered(self, lambda x: stack.repeat(
        Block(c, name="blocks"), x, time, is_text, cos, sin,
        depth=c.layers, remat=c.remat), x, memory)

    x = norm.LayerNorm(c.epsilon, name="norm")(x[:, c.text_len:])
    parts = _dense(2 * c.width, "float32", "head_modulation", _ZEROS)(
        nn.silu(time))
    shift, scale = jnp.split(parts[:, None], 2, axis=-1)  # b 1 d
    x = norm.LayerNorm(c.epsilon, dtype=jnp.float32, name="head_norm")(x)
    x = (x * (1 + scale) + shift).astype(c.dtype)
    x = _dense(pt * ph * pw * c.out_channels, c.dtype, "head", _ZEROS)(x)
    return einops.rearrange(
        x.astype(jnp.float32), "b (t h w) (c p q r) -> b (t p) (h q) (w r) c",
        t=grid[0], h=grid[1], w=grid[2], p=pt, q=ph, r=pw)  # b t h w c

  def _embed(self, name, x, dim):
    """A number f32[b] -> f32[b,time_dim]."""
    c = self.config
    small = nn.initializers.normal(0.02)
    x = embed.sinusoid(x, dim)  # b dim
    x = nn.silu(_dense(c.time_dim, "float32", f"{name}_in", small)(x))
    return _dense(c.time_dim, "float32", f"{name}_out", small)(x)
