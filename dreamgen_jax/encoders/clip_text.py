"""CLIP's text tower (arXiv 2103.00020): a prompt to one vector.

Tokens and learned positions through the same blocks as the vision tower's,
but causal; the prompt's vector is the state at its end token. HunyuanVideo
adds it to the diffusion time.
"""

import dataclasses

import jax.numpy as jnp
from flax import linen as nn

from dreamgen_jax import types, weights
from dreamgen_jax.encoders import clip
from dreamgen_jax.layers import norm, stack


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of a tower.

  Attributes:
    vocabulary: number of tokens.
    width, depth, heads, mlp_width: of the transformer.
    begin, end: ids of the tokens around a prompt; `end` also fills it up.
      None begins with the prompt itself.
    length: tokens of a prompt, filled up.
    epsilon: of the norms.
    activation: of the feed-forward, as in `clip.Config`.
    dtype: compute dtype.
    remat: see `layers.stack.repeat`.
  """

  vocabulary: int
  width: int
  depth: int
  heads: int
  mlp_width: int
  begin: int | None
  end: int
  length: int = 77
  epsilon: float = 1e-5
  activation: str = "quick_gelu"
  dtype: str = "float32"
  remat: str = "none"


PRESETS = {"vit_l_14": Config(49_408, 768, 12, 12, 3072, 49_406, 49_407)}


class Tower(nn.Module):
  """The text tower; see the file's docstring."""

  config: Config

  @nn.compact
  def __call__(self, tokens: types.Array) -> tuple[types.Array, types.Array]:
    """Encodes i32[b,m], each row ended by `end`.

    Returns:
      (normed states [b,m,d], the state at the first `end` [b,d]).
    """
    c, length = self.config, tokens.shape[1]
    x = nn.Embed(c.vocabulary, c.width, dtype=c.dtype, name="token",
                 embedding_init=nn.initializers.normal(0.02))(tokens)  # b m d
    positions = self.param(
        "positions", nn.initializers.normal(0.01), (c.length, c.width))
    x = x + positions[:length].astype(x.dtype)
    causal = jnp.tril(jnp.ones((length, length), bool))
    x, _ = stack.repeat(
        clip.Block(c, name="blocks"), (x, x), causal, depth=c.depth,
        remat=c.remat)
    x = norm.LayerNorm(c.epsilon, name="norm")(x)
    first = jnp.argmax(tokens == c.end, axis=1)
    return x, jnp.take_along_axis(x, first[:, None, None], axis=1)[:, 0]


def _rules(prefix: str) -> list[weights.Rule]:
  return [
      weights.Rule(f"{prefix}embeddings.token_embedding.weight",
                   "token/embedding"),
      weights.Rule(f"{prefix}embeddings.position_embedding.weight",
                   "positions"),
      *weights.norm(f"{prefix}final_layer_norm", "norm"),
      *clip.block_rules(f"{prefix}encoder.layers.{{i}}", "blocks"),
  ]


# Newer transformers save without the prefix.
NAMES = [
    *_rules("text_model."),
    *(dataclasses.replace(rule, spare=True) for rule in _rules("")),
    weights.Ignore(r"(text_model\.)?embeddings\.position_ids",
                   "it counts from 0"),
    weights.Ignore(r"vision_model\..*|(text|visual)_projection\.weight|"
                   r"logit_scale", "the whole CLIP's, which compares images"),
]
