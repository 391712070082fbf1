"""Names of Cosmos's tensors: diffusers' files and NVIDIA's own .pt files."""

from dreamgen_jax import weights
from dreamgen_jax.encoders import t5
from dreamgen_jax.world_models.cosmos import model
from dreamgen_jax.world_models.wan import vae_weights

# (diffusers, NVIDIA's own, ours)
_DENSE = [
    ("patch_embed.proj", "net.x_embedder.proj.1", "patch"),
    ("time_embed.t_embedder.linear_1", "net.t_embedder.1.linear_1", "time_in"),
    ("time_embed.t_embedder.linear_2", "net.t_embedder.1.linear_2",
     "time_out"),
    *((f"transformer_blocks.{{i}}.norm{place}.linear_{layer}",
       f"net.blocks.{{i}}.adaln_modulation_{name}.{layer}",
       f"blocks/{name}_modulation/{ours}")
      for place, name in enumerate(("self_attn", "cross_attn", "mlp"), 1)
      for layer, ours in enumerate(("down", "up"), 1)),
    *((f"transformer_blocks.{{i}}.{theirs}.to_{{p:q|k|v}}",
       f"net.blocks.{{i}}.{name}.{{p:q|k|v}}_proj", f"blocks/{name}/{{p}}")
      for theirs, name in (("attn1", "self_attn"), ("attn2", "cross_attn"))),
    *((f"transformer_blocks.{{i}}.{theirs}.to_out.0",
       f"net.blocks.{{i}}.{name}.output_proj", f"blocks/{name}/o")
      for theirs, name in (("attn1", "self_attn"), ("attn2", "cross_attn"))),
    ("transformer_blocks.{i}.ff.net.0.proj", "net.blocks.{i}.mlp.layer1",
     "blocks/mlp/ffn_in"),
    ("transformer_blocks.{i}.ff.net.2", "net.blocks.{i}.mlp.layer2",
     "blocks/mlp/ffn_out"),
    ("norm_out.linear_1", "net.final_layer.adaln_modulation.1",
     "head_modulation/down"),
    ("norm_out.linear_2", "net.final_layer.adaln_modulation.2",
     "head_modulation/up"),
    ("proj_out", "net.final_layer.linear", "head"),
]
_NORMS = [
    ("time_embed.norm", "net.t_embedding_norm", "time_norm"),
    *((f"transformer_blocks.{{i}}.{theirs}.norm_{{p:q|k}}",
       f"net.blocks.{{i}}.{name}.{{p:q|k}}_norm", f"blocks/{name}/{{p}}_norm")
      for theirs, name in (("attn1", "self_attn"), ("attn2", "cross_attn"))),
]
_DROPPED = [
    weights.Ignore(r"net\.pos_embedder\..*", "computed from the config"),
    weights.Ignore(r"net\.accum_.*", "counters of the release's training"),
    weights.Ignore(r".*\._extra_state", "empty state of NVIDIA's layers"),
]


def names(dialect: str) -> list[weights.Rule | weights.Ignore]:
  """The table of "diffusers" or of the "original" files."""
  column = ("diffusers", "original").index(dialect)
  rules: list[weights.Rule | weights.Ignore] = []
  for row in _DENSE:
    rules += weights.dense(row[column], row[2], bias=False)
  for row in _NORMS:
    rules += weights.norm(row[column], row[2], bias=False)
  return rules + (_DROPPED if dialect == "original" else [])


NAMES = {dialect: names(dialect) for dialect in ("diffusers", "original")}


def parts(config: model.Config) -> dict[str, weights.Table]:
  """The table of each part of a diffusers folder."""
  del config  # all sizes have the same names
  return {"transformer": NAMES["diffusers"],
          "vae": vae_weights.NAMES["diffusers"], "text": t5.NAMES}
