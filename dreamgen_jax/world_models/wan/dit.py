"""The Wan 2.1 / 2.2 diffusion transformer (arXiv 2503.20314).

Patches of a latent video walk through blocks of self-attention, attention to
text (and to the first image's CLIP tokens) and a feed-forward; the diffusion
time scales, shifts and gates them. One class for text to video, image to
video, first and last frame to video, and Wan 2.2's expanded times; which one it
is follows from the config.
"""

import dataclasses

import einops
import jax
import jax.numpy as jnp
from flax import linen as nn

from dreamgen_jax import errors, sharding
from dreamgen_jax.diffusion import reuse
from dreamgen_jax.layers import attention, embed, modulate, norm, rope, stack


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of a transformer.

  Attributes:
    width, heads, layers, ffn: of the blocks; width is split over the heads.
    in_channels: latent channels, with what the model's border concatenates.
    out_channels: channels of the predicted velocity.
    patch: latent frames, rows, columns of one token.
    text_dim, text_len: of the text states; all `text_len` rows are attended,
      zeros included, as the released weights are used to.
    freq_dim: of the time's sinusoid.
    image_dim: of the CLIP states; None has no image branch.
    image_positions: image tokens that have a learned position (two frames);
      None has none.
    theta: base of the rotary frequencies.
    epsilon: of the norms.
    dtype: of matrix products and of the residual stream.
    remat: see `layers.stack.repeat`.
  """

  width: int = 5120
  heads: int = 40
  layers: int = 40
  ffn: int = 13824
  in_channels: int = 36
  out_channels: int = 16
  patch: tuple[int, int, int] = (1, 2, 2)
  text_dim: int = 4096
  text_len: int = 512
  freq_dim: int = 256
  image_dim: int | None = None
  image_positions: int | None = None
  theta: float = 10_000.0
  epsilon: float = 1e-6
  dtype: str = "float32"
  remat: str = "none"

  def __post_init__(self):
    if self.width % (2 * self.heads):
      raise errors.ConfigError(
          f"width {self.width} does not split into {self.heads} heads of even "
          "size.")

  @property
  def head_dim(self) -> int:
    """Width of one head."""
    return self.width // self.heads


_1B3 = Config(width=1536, heads=12, layers=30, ffn=8960, in_channels=16)
_14B = Config(in_channels=16)
PRESETS = {
    "t2v_1b3": _1B3,
    "t2v_14b": _14B,
    "i2v_14b": dataclasses.replace(_14B, in_channels=36, image_dim=1280),
    "flf2v_14b": dataclasses.replace(
        _14B, in_channels=36, image_dim=1280, image_positions=514),
    "i2v_a14b": dataclasses.replace(_14B, in_channels=36),  # each expert
    "ti2v_5b": Config(width=3072, heads=24, layers=30, ffn=14336,
                      in_channels=48, out_channels=48),
}


_XAVIER = nn.initializers.xavier_uniform()


def _dense(features: int, dtype: str, name: str, init=_XAVIER) -> nn.Dense:
  return nn.Dense(features, dtype=dtype, kernel_init=init, name=name)


class SelfAttention(nn.Module):
  """Attention among the video's tokens, turned by their place in the grid."""

  config: Config

  @nn.compact
  def __call__(self, x, cos, sin):
    """[b,l,d], f32[l,k/2], f32[l,k/2] -> [b,l,d]."""
    c = self.config
    split = "b l (n k) -> b l n k"
    q = _dense(c.width, c.dtype, "q")(x)
    k = _dense(c.width, c.dtype, "k")(x)
    v = _dense(c.width, c.dtype, "v")(x)
    # The norm is over all heads together, unlike in most transformers.
    q = norm.RMSNorm(c.epsilon, name="q_norm")(q)
    k = norm.RMSNorm(c.epsilon, name="k_norm")(k)
    q, k, v = (einops.rearrange(y, split, n=c.heads) for y in (q, k, v))
    q, k = (rope.rotate_pairs(y, cos, sin) for y in (q, k))
    q, k, v = (sharding.constrain(y, "b l n k") for y in (q, k, v))
    x = attention.attend(q, k, v)
    x = einops.rearrange(x, "b l n k -> b l (n k)")
    return _dense(c.width, c.dtype, "o")(x)


class CrossAttention(nn.Module):
  """Attention to the text, plus attention to the image by the same queries."""

  config: Config

  @nn.compact
  def __call__(self, x, text, image):
    """[b,l,d], [b,m,d], [b,i,d] or None -> [b,l,d]."""
    c = self.config
    split = "b m (n k) -> b m n k"
    q = _dense(c.width, c.dtype, "q")(x)
    q = norm.RMSNorm(c.epsilon, name="q_norm")(q)
    q = einops.rearrange(q, split, n=c.heads)
    out = 0
    for tokens, suffix in ((text, ""), (image, "_image")):
      if tokens is not None:
        k = _dense(c.width, c.dtype, f"k{suffix}")(tokens)
        v = _dense(c.width, c.dtype, f"v{suffix}")(tokens)
        k = norm.RMSNorm(c.epsilon, name=f"k{suffix}_norm")(k)
        k, v = (einops.rearrange(y, split, n=c.heads) for y in (k, v))
        out = out + attention.attend(q, k, v)  # b l n k
    x = einops.rearrange(out, "b l n k -> b l (n k)")
    return _dense(c.width, c.dtype, "o")(x)


class Block(nn.Module):
  """One layer; `time` is shared by all, each adds a table of its own."""

  config: Config

  @nn.compact
  def __call__(self, x, time, text, image, cos, sin):
    """[b,l,d], f32[b,g,6,d], [b,m,d], [b,i,d] or None, rotary -> [b,l,d]."""
    c = self.config
    f32 = jnp.float32
    table = self.param("modulation", nn.initializers.normal(c.width ** -0.5),
                       (6, c.width))
    parts = jnp.moveaxis(time + table.astype(f32), 2, 0)  # 6 b g d
    shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = parts

    plain = norm.LayerNorm(c.epsilon, affine=False, dtype=f32, name="norm")
    y = modulate.shift_scale(plain(x), shift, scale, c.dtype)
    y = SelfAttention(c, name="self_attn")(y, cos, sin)
    x = x + modulate.gate(y, gate)

    y = norm.LayerNorm(c.epsilon, name="cross_norm")(x)
    x = x + CrossAttention(c, name="cross_attn")(y, text, image)

    plain = norm.LayerNorm(c.epsilon, affine=False, dtype=f32, name="ffn_norm")
    y = modulate.shift_scale(plain(x), ffn_shift, ffn_scale, c.dtype)
    y = nn.gelu(_dense(c.ffn, c.dtype, "ffn_in")(y))  # b l ffn
    y = _dense(c.width, c.dtype, "ffn_out")(y)  # b l d
    x = x + modulate.gate(y, ffn_gate)
    return sharding.constrain(x, "b l d")


class Transformer(nn.Module):
  """Predicts the velocity, noise minus data, of a noisy latent video."""

  config: Config

  @nn.compact
  def __call__(self, latent: jax.Array, time: jax.Array, text: jax.Array,
               image: jax.Array | None = None,
               memory: reuse.Memory | None = None) -> jax.Array:
    """Runs the transformer.

    Args:
      latent: f32[b,t,h,w,c] with all `in_channels`.
      time: the diffusion time times 1000, f32[b]; or f32[b,g] when each of g
        equal runs of tokens (one per latent frame, say) has its own.
      text: f32[b,m,text_dim], zero past each prompt's end.
      image: CLIP states f32[b,i,image_dim], those of several frames in a row.
      memory: of a sampling run that skips blocks.

    Returns:
      f32[b,t,h,w,out_channels].

    Raises:
      DataError: text of another length than the config's, or an image branch
        without an image, or the other way round.
    """
    c = self.config
    if text.shape[1] != c.text_len:
      raise errors.DataError(
          f"The text has {text.shape[1]} rows; this model's text_len is "
          f"{c.text_len}: pad with zeros.")
    if (image is None) != (c.image_dim is None):
      raise errors.DataError(
          f"The transformer's image_dim is {c.image_dim}, and it was given "
          f"{'no' if image is None else 'an'} image.")
    pt, ph, pw = c.patch
    _, t, h, w, _ = latent.shape
    grid = (t // pt, h // ph, w // pw)
    small = nn.initializers.normal(0.02)

    x = einops.rearrange(latent, "b (t p) (h q) (w r) c -> "
                         "b (t h w) (p q r c)", p=pt, q=ph, r=pw)
    x = _dense(c.width, c.dtype, "patch")(x)  # b l d
    x = sharding.constrain(x, "b l d")

    time = time if time.ndim == 2 else time[:, None]  # b g
    time = embed.sinusoid(time, c.freq_dim)  # b g freq
    time = nn.silu(_dense(c.width, "float32", "time_in", small)(time))
    time = _dense(c.width, "float32", "time_out", small)(time)  # b g d
    each = _dense(6 * c.width, "float32", "time_modulation")(nn.silu(time))
    each = einops.rearrange(each, "b g (s d) -> b g s d", s=6)

    text = nn.gelu(_dense(c.width, c.dtype, "text_in", small)(text))
    text = _dense(c.width, c.dtype, "text_out", small)(text)  # b m d

    if image is not None:
      image = self._embed_image(image)

    cos, sin = rope.grid(grid, rope.wan_dims(c.head_dim), c.theta)
    x = stack.remembered(self, lambda x: stack.repeat(
        Block(c, name="blocks"), x, each, text, image, cos, sin,
        depth=c.layers, remat=c.remat), x, memory)

    table = self.param("head_modulation",
                       nn.initializers.normal(c.width ** -0.5), (2, c.width))
    shift, scale = jnp.moveaxis(
        time[:, :, None] + table.astype(jnp.float32), 2, 0)  # 2 b g d
    x = norm.LayerNorm(c.epsilon, affine=False, dtype=jnp.float32,
                       name="head_norm")(x)
    x = modulate.shift_scale(x, shift, scale, c.dtype)
    x = _dense(pt * ph * pw * c.out_channels, c.dtype, "head",
               nn.initializers.zeros)(x)
    return einops.rearrange(
        x.astype(jnp.float32), "b (t h w) (p q r c) -> b (t p) (h q) (w r) c",
        t=grid[0], h=grid[1], w=grid[2], p=pt, q=ph, r=pw)  # b t h w c

  def _embed_image(self, image):
    """f32[b,i,image_dim] -> [b,i,d]."""
    c = self.config
    if c.image_positions:
      image = image + self.param(
          "image_positions", nn.initializers.zeros,
          (c.image_positions, c.image_dim))
    # These two norms keep torch's default epsilon in the released model.
    x = norm.LayerNorm(1e-5, name="image_norm_in")(image)
    x = _dense(c.image_dim, c.dtype, "image_in")(x)
    x = _dense(c.width, c.dtype, "image_out")(nn.gelu(x, approximate=False))
    return norm.LayerNorm(1e-5, name="image_norm_out")(x)
