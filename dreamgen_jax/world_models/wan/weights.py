"""Names of the transformer's tensors: diffusers' files and Wan's own."""

from dreamgen_jax import weights

# (diffusers, Wan's own, ours)
_DENSE = [
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0",
     "time_in"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2",
     "time_out"),
    ("condition_embedder.time_proj", "time_projection.1", "time_modulation"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0",
     "text_in"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2",
     "text_out"),
    ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1",
     "image_in"),
    ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3",
     "image_out"),
    ("blocks.{i}.attn1.to_{p:q|k|v}", "blocks.{i}.self_attn.{p:q|k|v}",
     "blocks/self_attn/{p}"),
    ("blocks.{i}.attn1.to_out.0", "blocks.{i}.self_attn.o",
     "blocks/self_attn/o"),
    ("blocks.{i}.attn2.to_{p:q|k|v}", "blocks.{i}.cross_attn.{p:q|k|v}",
     "blocks/cross_attn/{p}"),
    ("blocks.{i}.attn2.to_out.0", "blocks.{i}.cross_attn.o",
     "blocks/cross_attn/o"),
    ("blocks.{i}.attn2.add_{p:k|v}_proj", "blocks.{i}.cross_attn.{p:k|v}_img",
     "blocks/cross_attn/{p}_image"),
    ("blocks.{i}.ffn.net.0.proj", "blocks.{i}.ffn.0", "blocks/ffn_in"),
    ("blocks.{i}.ffn.net.2", "blocks.{i}.ffn.2", "blocks/ffn_out"),
    ("proj_out", "head.head", "head"),
]
_LAYER_NORMS = [
    # What Wan's own code calls norm3 is norm2 in diffusers.
    ("blocks.{i}.norm2", "blocks.{i}.norm3", "blocks/cross_norm"),
    ("condition_embedder.image_embedder.norm1", "img_emb.proj.0",
     "image_norm_in"),
    ("condition_embedder.image_embedder.norm2", "img_emb.proj.4",
     "image_norm_out"),
]
_RMS_NORMS = [
    ("blocks.{i}.attn1.norm_{p:q|k}", "blocks.{i}.self_attn.norm_{p:q|k}",
     "blocks/self_attn/{p}_norm"),
    ("blocks.{i}.attn2.norm_{p:q|k}", "blocks.{i}.cross_attn.norm_{p:q|k}",
     "blocks/cross_attn/{p}_norm"),
    ("blocks.{i}.attn2.norm_added_k", "blocks.{i}.cross_attn.norm_k_img",
     "blocks/cross_attn/k_image_norm"),
]
_TABLES = [
    ("blocks.{i}.scale_shift_table", "blocks.{i}.modulation",
     "blocks/modulation"),
    ("scale_shift_table", "head.modulation", "head_modulation"),
    ("condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos",
     "image_positions"),
]


def _table(column: int, patch: tuple[int, ...]) -> list[weights.Rule]:
  rules = weights.conv("patch_embedding", "patch", weights.patch(*patch))
  for row in _DENSE:
    rules += weights.dense(row[column], row[2])
  for row in _LAYER_NORMS:
    rules += weights.norm(row[column], row[2])
  for row in _RMS_NORMS:
    rules += weights.norm(row[column], row[2], bias=False)
  for row in _TABLES:
    rules.append(weights.Rule(row[column], row[2], weights.squeeze()))
  return rules


def names(dialect: str, patch: tuple[int, ...] = (1, 2, 2)
          ) -> list[weights.Rule]:
  """The table of "diffusers" or of the "original" files."""
  return _table(("diffusers", "original").index(dialect), patch)


NAMES = {dialect: names(dialect) for dialect in ("diffusers", "original")}
