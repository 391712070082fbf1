"""The HunyuanVideo diffusion transformer (arXiv 2412.03603).

Patches of a latent video and the states of a prompt attend to one another:
first in blocks with weights for each of the two streams, then in blocks where
they are one sequence, video first, and attention and feed-forward stand side
by side. The diffusion time, and a vector of the prompt, shift, scale and gate
both. One class for text to video and both kinds of image to video.
"""

import dataclasses

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import linen as nn

from dreamgen_jax import errors, sharding
from dreamgen_jax.diffusion import reuse
from dreamgen_jax.layers import attention, embed, norm, rope, stack

CONCAT, REPLACE = "latent_concat", "token_replace"
_FREQUENCIES = 256
_REFINER_RATIO = 4  # of its feed-forward, whatever that of the blocks is


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of a transformer.

  Attributes:
    width, heads, ffn: of the blocks; width is split over the heads.
    dual_layers, single_layers: blocks with two streams, then with one.
    refiner_layers: blocks that the prompt's states go through before.
    in_channels: latent channels, with what the model's border concatenates.
    out_channels: channels of the predicted velocity.
    patch: latent frames, rows, columns of one token.
    text_dim, pooled_dim: of the prompt's states and of its vector.
    rotary: dims of a head that turn with (t, h, w).
    theta: base of the rotary frequencies.
    guidance: the network is told a guidance scale, and needs no second run.
    image: how it is told the first frame: "latent_concat" (by channels),
      "token_replace" (its tokens are clean, at time 0), or None.
    epsilon: of the norms.
    dtype: of matrix products and of the residual stream.
    remat: see `layers.stack.repeat`.
  """

  width: int = 3072
  heads: int = 24
  ffn: int = 12_288
  dual_layers: int = 20
  single_layers: int = 40
  refiner_layers: int = 2
  in_channels: int = 16
  out_channels: int = 16
  patch: tuple[int, int, int] = (1, 2, 2)
  text_dim: int = 4096
  pooled_dim: int = 768
  rotary: tuple[int, int, int] = (16, 56, 56)
  theta: float = 256.0
  guidance: bool = True
  image: str | None = None
  epsilon: float = 1e-6
  dtype: str = "float32"
  remat: str = "none"

  def __post_init__(self):
    if self.heads * sum(self.rotary) != self.width:
      raise errors.ConfigError(
          f"width {self.width} is not {self.heads} heads of {self.rotary} "
          f"dims, {self.heads * sum(self.rotary)}.")
    if self.image not in (None, CONCAT, REPLACE):
      raise errors.ConfigError(
          f"image is {self.image!r}; it can be {CONCAT}, {REPLACE} or None.")


PRESETS = {
    "t2v": Config(),
    "i2v": Config(image=REPLACE),
    "i2v_33ch": Config(in_channels=33, image=CONCAT, guidance=False),
}


def _dense(features: int, dtype: str, name: str, **kw) -> nn.Dense:
  return nn.Dense(features, dtype=dtype, name=name, **kw)


def _layer_norm(config: Config, name: str) -> norm.LayerNorm:
  return norm.LayerNorm(
      config.epsilon, affine=False, dtype=jnp.float32, name=name)


class Mlp(nn.Module):
  """Two linear layers in float32 around a SiLU: vectors of the condition."""

  width: int

  @nn.compact
  def __call__(self, x):
    """[..., c] -> f32[..., d]."""
    x = nn.silu(_dense(self.width, "float32", "in")(x))
    return _dense(self.width, "float32", "out")(x)


class RefinerBlock(nn.Module):
  """Self-attention and feed-forward of the prompt, gated by the time."""

  config: Config

  @nn.compact
  def __call__(self, x, condition, mask):
    """[b,m,d], f32[b,1,d], bool[b,1,1,m] -> [b,m,d]."""
    c = self.config
    gates = _dense(2 * c.width, "float32", "gates")(condition)
    gate, ffn_gate = jnp.split(gates, 2, axis=-1)  # b 1 d
    y = norm.LayerNorm(c.epsilon, name="norm")(x)
    q, k, v = (
        rearrange(_dense(c.width, c.dtype, name)(y), "b m (n k) -> b m n k",
                  n=c.heads) for name in "qkv")
    y = rearrange(attention.attend(q, k, v, mask), "b m n k -> b m (n k)")
    y = _dense(c.width, c.dtype, "o")(y)
    x = x + (y * gate).astype(x.dtype)
    y = norm.LayerNorm(c.epsilon, name="ffn_norm")(x)
    y = nn.silu(_dense(_REFINER_RATIO * c.width, c.dtype, "ffn_in")(y))
    y = _dense(c.width, c.dtype, "ffn_out")(y)  # b m d
    return x + (y * ffn_gate).astype(x.dtype)


class Refiner(nn.Module):
  """The prompt's states as tokens; they see one another and the time."""

  config: Config

  @nn.compact
  def __call__(self, text, time, mask):
    """f32[b,m,text_dim], sinusoids f32[b,k], bool[b,m] -> [b,m,d]."""
    c = self.config
    weight = mask[..., None].astype(jnp.float32)
    mean = jnp.sum(text * weight, axis=1) / jnp.sum(weight, axis=1)
    condition = Mlp(c.width, name="time")(time)
    condition = nn.silu(condition + Mlp(c.width, name="mean")(mean))  # b d
    x = _dense(c.width, c.dtype, "in")(text)  # b m d
    return stack.repeat(
        RefinerBlock(c, name="blocks"), x, condition[:, None],
        mask[:, None, None], depth=c.refiner_layers, remat=c.remat)


def _spread(part, given):
  """f32[b,1,d], or f32[b,2,d] and which tokens bool[l] take the second."""
  if part.shape[1] == 1:
    return part
  return jnp.where(given[:, None], part[:, 1:], part[:, :1])  # b l d


def _heads(config, x, cos=None, sin=None):
  """Queries, keys, values [b,l,n,k] of the module that calls this."""
  c = config
  q, k, v = (
      rearrange(_dense(c.width, c.dtype, name)(x), "b l (n k) -> b l n k",
                n=c.heads) for name in "qkv")
  q = norm.RMSNorm(c.epsilon, name="q_norm")(q)
  k = norm.RMSNorm(c.epsilon, name="k_norm")(k)
  if cos is not None:
    q, k = (_rotate(y, cos, sin) for y in (q, k))
  return q, k, v


def _rotate(x, cos, sin):
  """Turns the video's tokens, which come first; the text has no place."""
  video = len(cos)
  turned = rope.rotate_pairs(x[:, :video], cos, sin)
  return turned if video == x.shape[1] else jnp.concatenate(
      [turned, x[:, video:]], axis=1)


def _attend(q, k, v, mask):
  """[b,l,n,k] each -> [b,l,d]."""
  q, k, v = (sharding.constrain(y, "b l n k") for y in (q, k, v))
  return rearrange(attention.attend(q, k, v, mask), "b l n k -> b l (n k)")


class StreamIn(nn.Module):
  """One stream of a dual block up to attention."""

  config: Config

  @nn.compact
  def __call__(self, x, condition, given, cos=None, sin=None):
    """[b,l,d], f32[b,g,d] -> (q, k, v), and what `StreamOut` needs."""
    c = self.config
    parts = _dense(6 * c.width, "float32", "modulation")(condition)
    shift, scale, *rest = (
        _spread(part, given) for part in jnp.split(parts, 6, axis=-1))
    y = _layer_norm(c, "norm")(x) * (1 + scale) + shift
    return _heads(c, y.astype(c.dtype), cos, sin), rest


class StreamOut(nn.Module):
  """One stream of a dual block behind attention."""

  config: Config

  @nn.compact
  def __call__(self, x, attended, modulation):
    """[b,l,d], [b,l,d], (gate, shift, scale, gate) -> [b,l,d]."""
    c = self.config
    gate, shift, scale, ffn_gate = modulation
    y = _dense(c.width, c.dtype, "o")(attended)
    x = x + (y * gate).astype(x.dtype)
    y = _layer_norm(c, "norm")(x) * (1 + scale) + shift
    y = nn.gelu(_dense(c.ffn, c.dtype, "ffn_in")(y.astype(c.dtype)))
    y = _dense(c.width, c.dtype, "ffn_out")(y)
    x = x + (y * ffn_gate).astype(x.dtype)
    return sharding.constrain(x, "b l d")


class DualBlock(nn.Module):
  """Video and text with weights of their own, and one attention."""

  config: Config

  @nn.compact
  def __call__(self, carry, condition, given, mask, cos, sin):
    """(video [b,l,d], text [b,m,d]) -> the same; see `Transformer`."""
    c, (video, text) = self.config, carry
    video_heads, video_rest = StreamIn(c, name="video_in")(
        video, condition, given, cos, sin)
    text_heads, text_rest = StreamIn(c, name="text_in")(
        text, condition[:, :1], given)
    q, k, v = (jnp.concatenate(pair, axis=1) for pair in
               zip(video_heads, text_heads, strict=True))  # b l+m n k
    y = _attend(q, k, v, mask)
    tokens = video.shape[1]
    video = StreamOut(c, name="video_out")(video, y[:, :tokens], video_rest)
    text = StreamOut(c, name="text_out")(text, y[:, tokens:], text_rest)
    return video, text


class SingleBlock(nn.Module):
  """Video and text as one sequence; attention beside the feed-forward."""

  config: Config

  @nn.compact
  def __call__(self, x, condition, given, mask, cos, sin):
    """[b,l+m,d] -> the same; see `Transformer`."""
    c = self.config
    parts = _dense(3 * c.width, "float32", "modulation")(condition)
    shift, scale, gate = (
        _spread(part, given) for part in jnp.split(parts, 3, axis=-1))
    y = _layer_norm(c, "norm")(x) * (1 + scale) + shift
    y = y.astype(c.dtype)
    hidden = nn.gelu(_dense(c.ffn, c.dtype, "ffn_in")(y))
    y = _attend(*_heads(c, y, cos, sin), mask)
    y = jnp.concatenate([y, hidden], axis=-1)  # b l+m d+ffn
    y = _dense(c.width, c.dtype, "o")(y)
    return sharding.constrain(x + (y * gate).astype(x.dtype), "b l d")


class Transformer(nn.Module):
  """Predicts the velocity, noise minus data, of a noisy latent video."""

  config: Config

  @nn.compact
  def __call__(self, latent: jax.Array, time: jax.Array, text: jax.Array,
               text_mask: jax.Array, pooled: jax.Array,
               guidance: jax.Array | None = None,
               memory: reuse.Memory | None = None) -> jax.Array:
    """Runs the transformer.

    Args:
      latent: f32[b,t,h,w,c] with all `in_channels`.
      time: the diffusion time times 1000, f32[b].
      text: f32[b,m,text_dim].
      text_mask: bool[b,m], True for the prompt's rows, which come first.
      pooled: the prompt's vector f32[b,pooled_dim].
      guidance: the guidance scale times 1000, f32[b].
      memory: of a sampling run that skips blocks.

    Returns:
      f32[b,t,h,w,out_channels].

    Raises:
      DataError: a guidance scale that the network does not know, or none where
        it needs one.
    """
    c = self.config
    if (guidance is not None) != c.guidance:
      raise errors.DataError(
          f"The transformer is told a guidance scale: {c.guidance}; it was "
          f"given {guidance}.")
    pt, ph, pw = c.patch
    _, t, h, w, _ = latent.shape
    grid = (t // pt, h // ph, w // pw)
    text_mask = text_mask.astype(bool)

    x = rearrange(latent, "b (t p) (h q) (w r) c -> b (t h w) (p q r c)",
                  p=pt, q=ph, r=pw)
    x = _dense(c.width, c.dtype, "patch")(x)  # b l d
    x = sharding.constrain(x, "b l d")
    tokens = x.shape[1]

    times = Mlp(c.width, name="time")
    vector = Mlp(c.width, name="pooled")(pooled)  # b d
    sinusoid = embed.sinusoid(time, _FREQUENCIES)
    conditions = [times(sinusoid) + vector]
    if c.image == REPLACE:
      zero = embed.sinusoid(jnp.zeros_like(time), _FREQUENCIES)
      conditions.append(times(zero) + vector)
    if guidance is not None:
      conditions[0] += Mlp(c.width, name="guidance")(
          embed.sinusoid(guidance, _FREQUENCIES))
    condition = nn.silu(jnp.stack(conditions, axis=1))  # b g d

    text = Refiner(c, name="refiner")(text, sinusoid, text_mask)  # b m d
    given = jnp.arange(tokens + text.shape[1]) < grid[1] * grid[2]
    mask = jnp.pad(text_mask, ((0, 0), (tokens, 0)), constant_values=True)
    mask = mask[:, None, None]  # b 1 1 l+m
    cos, sin = rope.grid(grid, c.rotary, c.theta)

    def blocks(x):
      both = stack.repeat(
          DualBlock(c, name="dual_blocks"), (x, text), condition,
          given[:tokens], mask, cos, sin, depth=c.dual_layers, remat=c.remat)
      x = jnp.concatenate(both, axis=1)  # b l+m d
      return stack.repeat(
          SingleBlock(c, name="single_blocks"), x, condition, given, mask, cos,
          sin, depth=c.single_layers, remat=c.remat)[:, :tokens]

    x = stack.remembered(self, blocks, x, memory)

    # Here the scale comes first, in the blocks the shift.
    scale, shift = jnp.split(
        _dense(2 * c.width, "float32", "head_modulation")(condition[:, :1]),
        2, axis=-1)
    x = _layer_norm(c, "head_norm")(x) * (1 + scale) + shift
    x = _dense(pt * ph * pw * c.out_channels, c.dtype, "head",
               kernel_init=nn.initializers.zeros)(x.astype(c.dtype))
    return rearrange(
        x.astype(jnp.float32), "b (t h w) (c p q r) -> b (t p) (h q) (w r) c",
        t=grid[0], h=grid[1], w=grid[2], p=pt, q=ph, r=pw)  # b t h w c
