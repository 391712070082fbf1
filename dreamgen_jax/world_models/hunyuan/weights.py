"""Names of the transformer's tensors: diffusers' files and Tencent's own."""

import functools

from dreamgen_jax import weights
from dreamgen_jax.encoders import clip_text, llava
from dreamgen_jax.world_models.hunyuan import model, vae_weights

_TIMES = (
    # (diffusers, Tencent's own, ours); each is two linear layers
    ("time_text_embed.timestep_embedder.linear_{n}", "time_in.mlp.{n}",
     "time"),
    ("time_text_embed.guidance_embedder.linear_{n}", "guidance_in.mlp.{n}",
     "guidance"),
    ("time_text_embed.text_embedder.linear_{n}", "vector_in.{n}_layer",
     "pooled"),
    ("context_embedder.time_text_embed.timestep_embedder.linear_{n}",
     "txt_in.t_embedder.mlp.{n}", "refiner/time"),
    ("context_embedder.time_text_embed.text_embedder.linear_{n}",
     "txt_in.c_embedder.linear_{n}", "refiner/mean"),
)
_REFINER = ("context_embedder.token_refiner.refiner_blocks.{i}",
            "txt_in.individual_token_refiner.blocks.{i}", "refiner/blocks")
_DUAL = ("transformer_blocks.{i}", "double_blocks.{i}", "dual_blocks")
_SINGLE = ("single_transformer_blocks.{i}", "single_blocks.{i}",
           "single_blocks")
_QKV = ("q", "k", "v")


def _two_layers(column: int) -> list[weights.Rule]:
  rules = []
  for row in _TIMES:
    first, second = "1", "2"
    if column == 1:
      first, second = ("in", "out") if row[2] == "pooled" else (
          ("1", "2") if row[2] == "refiner/mean" else ("0", "2"))
    for n, ours in ((first, "in"), (second, "out")):
      rules += weights.dense(
          row[column].replace("{n}", n), f"{row[2]}/{ours}")
  return rules


def _cut(name: str, path: str, pieces: tuple[int, ...],
         of: int) -> list[weights.Rule]:
  """Rules of a linear layer that is pieces of a released one."""
  return [
      weights.Rule(f"{name}.weight", f"{path}/kernel", weights.linear,
                   pieces=pieces, of=of),
      weights.Rule(f"{name}.bias", f"{path}/bias", pieces=pieces, of=of),
  ]


def _diffusers() -> list[weights.Rule]:
  dense, norm = weights.dense, weights.norm
  theirs, _, ours = _REFINER
  rules = [
      *dense("context_embedder.proj_in", "refiner/in"),
      *norm(f"{theirs}.norm1", f"{ours}/norm"),
      *norm(f"{theirs}.norm2", f"{ours}/ffn_norm"),
      *dense(f"{theirs}.attn.to_{{p:q|k|v}}", f"{ours}/{{p}}"),
      *dense(f"{theirs}.attn.to_out.0", f"{ours}/o"),
      *dense(f"{theirs}.ff.net.0.proj", f"{ours}/ffn_in"),
      *dense(f"{theirs}.ff.net.2", f"{ours}/ffn_out"),
      *dense(f"{theirs}.norm_out.linear", f"{ours}/gates"),
      *dense("norm_out.linear", "head_modulation"),
      *dense("proj_out", "head"),
  ]
  theirs, _, ours = _DUAL
  for stream, suffix, qkv, out, added in (
      ("video", "", "to_{p:q|k|v}", "to_out.0", ""),
      ("text", "_context", "add_{p:q|k|v}_proj", "to_add_out", "added_")):
    rules += [
        *dense(f"{theirs}.norm1{suffix}.linear",
               f"{ours}/{stream}_in/modulation"),
        *dense(f"{theirs}.attn.{qkv}", f"{ours}/{stream}_in/{{p}}"),
        *norm(f"{theirs}.attn.norm_{added}{{p:q|k}}",
              f"{ours}/{stream}_in/{{p}}_norm", bias=False),
        *dense(f"{theirs}.attn.{out}", f"{ours}/{stream}_out/o"),
        *dense(f"{theirs}.ff{suffix}.net.0.proj",
               f"{ours}/{stream}_out/ffn_in"),
        *dense(f"{theirs}.ff{suffix}.net.2", f"{ours}/{stream}_out/ffn_out"),
    ]
  theirs, _, ours = _SINGLE
  return [
      *rules,
      *dense(f"{theirs}.norm.linear", f"{ours}/modulation"),
      *dense(f"{theirs}.attn.to_{{p:q|k|v}}", f"{ours}/{{p}}"),
      *norm(f"{theirs}.attn.norm_{{p:q|k}}", f"{ours}/{{p}}_norm",
            bias=False),
      *dense(f"{theirs}.proj_mlp", f"{ours}/ffn_in"),
      *dense(f"{theirs}.proj_out", f"{ours}/o"),
  ]


def _original(ratio: int) -> list[weights.Rule]:
  dense, norm = weights.dense, weights.norm
  _, theirs, ours = _REFINER
  rules = [
      *dense("txt_in.input_embedder", "refiner/in"),
      *norm(f"{theirs}.norm1", f"{ours}/norm"),
      *norm(f"{theirs}.norm2", f"{ours}/ffn_norm"),
      *dense(f"{theirs}.self_attn_proj", f"{ours}/o"),
      *dense(f"{theirs}.mlp.fc1", f"{ours}/ffn_in"),
      *dense(f"{theirs}.mlp.fc2", f"{ours}/ffn_out"),
      *dense(f"{theirs}.adaLN_modulation.1", f"{ours}/gates"),
      # Tencent's has the shift first here, too.
      *_cut("final_layer.adaLN_modulation.1", "head_modulation", (1, 0), 2),
      *dense("final_layer.linear", "head"),
  ]
  for i, p in enumerate(_QKV):
    rules += _cut(f"{theirs}.self_attn_qkv", f"{ours}/{p}", (i,), 3)
  _, theirs, ours = _DUAL
  for stream, name in (("video", "img"), ("text", "txt")):
    rules += [
        *dense(f"{theirs}.{name}_mod.linear",
               f"{ours}/{stream}_in/modulation"),
        *norm(f"{theirs}.{name}_attn_{{p:q|k}}_norm",
              f"{ours}/{stream}_in/{{p}}_norm", bias=False),
        *dense(f"{theirs}.{name}_attn_proj", f"{ours}/{stream}_out/o"),
        *dense(f"{theirs}.{name}_mlp.fc1", f"{ours}/{stream}_out/ffn_in"),
        *dense(f"{theirs}.{name}_mlp.fc2", f"{ours}/{stream}_out/ffn_out"),
    ]
    for i, p in enumerate(_QKV):
      rules += _cut(f"{theirs}.{name}_attn_qkv", f"{ours}/{stream}_in/{p}",
                    (i,), 3)
  _, theirs, ours = _SINGLE
  for i, p in enumerate(_QKV):
    rules += _cut(f"{theirs}.linear1", f"{ours}/{p}", (i,), 3 + ratio)
  return [
      *rules,
      *_cut(f"{theirs}.linear1", f"{ours}/ffn_in",
            tuple(range(3, 3 + ratio)), 3 + ratio),
      *dense(f"{theirs}.linear2", f"{ours}/o"),
      *dense(f"{theirs}.modulation.linear", f"{ours}/modulation"),
      *norm(f"{theirs}.{{p:q|k}}_norm", f"{ours}/{{p}}_norm", bias=False),
  ]


@functools.cache
def names(dialect: str, patch: tuple[int, int, int] = (1, 2, 2),
          ratio: int = 4) -> list[weights.Rule]:
  """The table of "diffusers" or of the "original" files.

  Args:
    dialect: see above.
    patch: of the transformer.
    ratio: its ffn by its width, a whole number in the original files.
  """
  column = ("diffusers", "original").index(dialect)
  patch_name = ("x_embedder.proj", "img_in.proj")[column]
  return [
      *weights.conv(patch_name, "patch", weights.patch(*patch)),
      *_two_layers(column), *(_original(ratio) if column else _diffusers())]


NAMES = {dialect: names(dialect) for dialect in ("diffusers", "original")}


# Where the parts lie in the folders of Tencent's own releases.
ORIGINALS = {
    "transformer": ("hunyuan-video-i2v-*/transformers/*_model_states.pt",
                    "transformers/*_model_states.pt"),
    "vae": ("hunyuan-video-i2v-*/vae/*.pt", "vae/*.pt"),
    "text": ("text_encoder_i2v",),
    "text_2": ("text_encoder_2",),
}


def parts(config: model.Config) -> dict[str, weights.Table]:
  """Each part's table in diffusers' words."""
  return {
      "transformer": names("diffusers", config.transformer.patch),
      "vae": vae_weights.NAMES["diffusers"],
      "text": llava.names(config.text.vision.patch),
      "text_2": clip_text.NAMES,
  }


def original_parts(config: model.Config) -> dict[str, weights.Table]:
  """Tables of the parts that Tencent's own files name otherwise."""
  t = config.transformer
  return {"transformer": names("original", t.patch, t.ffn // t.width)}
