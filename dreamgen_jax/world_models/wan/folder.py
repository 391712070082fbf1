"""Wan's checkpoints: the Diffusers folders, and Wan's own.

  transformer/  transformer_2/ (Wan 2.2 A14B)  vae/  text_encoder/  tokenizer/
  image_encoder/ where the preset has one
"""

import pathlib
from typing import Any

from dreamgen_jax import folder
from dreamgen_jax.encoders import clip, t5, tokenizer_files
from dreamgen_jax.world_models.wan import (
    model,
    original,
    vae_weights,
    weights,
)


def parts(config: model.Config) -> dict[str, folder.Part]:
  """What the released files call the parts of this config."""

  def names(dialect):
    column = folder.DIALECTS.index(dialect)
    tables = dict.fromkeys(
        config.experts, weights.names(dialect, config.transformer.patch))
    tables |= {"vae": vae_weights.names(dialect, config.vae),
               "text": (t5.NAMES, original.TEXT)[column]}
    if config.image:
      tables["image"] = (clip.names, original.image)[column](
          config.image.patch)
    return tables

  return folder.parts(_describe(config), *map(names, folder.DIALECTS),
                      original.FILES)


def _describe(config: model.Config) -> dict[str, dict[str, Any]]:
  """The config.json of each part, in the released files' words."""
  t, e = config.transformer, config.text
  transformer = {
      "_class_name": "WanTransformer3DModel", "patch_size": list(t.patch),
      "num_attention_heads": t.heads, "attention_head_dim": t.head_dim,
      "in_channels": t.in_channels, "out_channels": t.out_channels,
      "text_dim": t.text_dim, "freq_dim": t.freq_dim, "ffn_dim": t.ffn,
      "num_layers": t.layers, "image_dim": t.image_dim,
      "pos_embed_seq_len": t.image_positions}
  facts = dict.fromkeys(config.experts, transformer) | {
      "vae": vae_weights.describe(config.vae),
      "text": {
          "architectures": ["UMT5EncoderModel"], "vocab_size": e.vocabulary,
          "d_model": e.width, "d_kv": e.head_dim, "d_ff": e.ffn,
          "num_layers": e.layers, "num_heads": e.heads,
          "relative_attention_num_buckets": e.buckets,
          "relative_attention_max_distance": e.max_distance},
  }
  if i := config.image:
    facts["image"] = {
        "architectures": ["CLIPVisionModel"],
        "model_type": "clip_vision_model", "hidden_size": i.width,
        "intermediate_size": i.mlp_width, "num_hidden_layers": i.depth,
        "num_attention_heads": i.heads, "image_size": i.image_size,
        "patch_size": i.patch, "hidden_act": "gelu",
        "layer_norm_eps": i.epsilon}
  return facts


FAMILY = folder.Family(
    "Wan", pathlib.Path(__file__).parent, model.Model, parts,
    tokenizer_files.load, {"tokenizer": ("tokenizer", original.TOKENIZER)})
load, locate, save, convert = (
    FAMILY.load, FAMILY.locate, FAMILY.save, FAMILY.convert)
