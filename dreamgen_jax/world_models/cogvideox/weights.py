"""Names of the transformer's tensors: diffusers' files, as released."""

from typing import Any

from dreamgen_jax import weights
from dreamgen_jax.encoders import t5
from dreamgen_jax.world_models.cogvideox import vae_weights

_DENSE = [
    ("patch_embed.text_proj", "text"),
    ("time_embedding.linear_1", "time_in"),
    ("time_embedding.linear_2", "time_out"),
    ("ofs_embedding.linear_1", "offset_in"),
    ("ofs_embedding.linear_2", "offset_out"),
    ("transformer_blocks.{i}.norm1.linear", "blocks/attn_norm/linear"),
    ("transformer_blocks.{i}.norm2.linear", "blocks/ffn_norm/linear"),
    ("transformer_blocks.{i}.attn1.to_{p:q|k|v}", "blocks/attn/{p}"),
    ("transformer_blocks.{i}.attn1.to_out.0", "blocks/attn/o"),
    ("transformer_blocks.{i}.ff.net.0.proj", "blocks/ffn_in"),
    ("transformer_blocks.{i}.ff.net.2", "blocks/ffn_out"),
    ("norm_out.linear", "head_modulation"),
    ("proj_out", "head"),
]
_NORMS = [
    ("transformer_blocks.{i}.norm1.norm", "blocks/attn_norm/norm"),
    ("transformer_blocks.{i}.norm2.norm", "blocks/ffn_norm/norm"),
    ("transformer_blocks.{i}.attn1.norm_{p:q|k}", "blocks/attn/{p}_norm"),
    ("norm_final", "norm"),
    ("norm_out.norm", "head_norm"),
]


def names(patch: tuple[int, int, int]) -> list[weights.Rule]:
  """The table of a transformer with these patches (`dit.Config.patch`)."""
  # A patch over time is a linear map in the released file, else a convolution.
  layout = weights.linear if patch[0] > 1 else _flat(*patch[1:])
  rules = weights.conv("patch_embed.proj", "patch", layout)
  for name, path in _DENSE:
    rules += weights.dense(name, path)
  for name, path in _NORMS:
    rules += weights.norm(name, path)
  rules.append(weights.Rule(
      "patch_embed.pos_embedding", "positions", weights.squeeze()))
  return rules


def _flat(*sizes: int) -> weights.Transform:
  """A convolution over disjoint patches to a linear kernel, channels first."""

  def load(x):
    if x.shape[2:] != sizes:
      raise ValueError("patch size")
    return x.reshape(x.shape[0], -1).transpose(1, 0)

  return weights.Transform(
      f"patch (out, in, {sizes}) -> (in {sizes}, out)", load,
      lambda x: x.transpose(1, 0).reshape(x.shape[1], -1, *sizes))


def parts(config: Any) -> dict[str, weights.Table]:
  """Each part's table in diffusers' words, for a `model.Config`."""
  return {
      "transformer": names(config.transformer.patch),
      "vae": vae_weights.NAMES["diffusers"],
      "text": t5.NAMES,
  }
