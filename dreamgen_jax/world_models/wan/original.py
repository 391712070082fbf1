"""Names of the encoders' tensors in Wan's own .pth files.

Source: Wan2.1 `modules/t5.py` and `modules/clip.py`. Names of the transformer
and of the autoencoder are in `weights.py` and `vae_weights.py`.
"""

from dreamgen_jax import weights

# Where they lie; Wan 2.2's first, whose two experts have a folder each.
FILES = {
    "transformer": ("high_noise_model",
                    "diffusion_pytorch_model.safetensors*"),
    "transformer_2": ("low_noise_model",),
    "vae": ("Wan2.[12]_VAE.pth",),
    "text": ("models_t5_*.pth",),
    "image": ("models_clip_*.pth",),
}
TOKENIZER = "google/umt5-xxl"

TEXT = [
    weights.Rule("token_embedding.weight", "token/embedding"),
    *weights.norm("norm", "norm", bias=False),
    weights.Rule("blocks.{i}.pos_embedding.embedding.weight",
                 "blocks/position/embedding"),
    *weights.dense("blocks.{i}.attn.{p:q|k|v|o}", "blocks/{p}", bias=False),
    *weights.norm("blocks.{i}.norm1", "blocks/attn_norm", bias=False),
    *weights.norm("blocks.{i}.norm2", "blocks/ffn_norm", bias=False),
    *weights.dense("blocks.{i}.ffn.gate.0", "blocks/ffn_gate", bias=False),
    *weights.dense("blocks.{i}.ffn.fc1", "blocks/ffn_up", bias=False),
    *weights.dense("blocks.{i}.ffn.fc2", "blocks/ffn_out", bias=False),
]


def image(patch: int) -> list[weights.Rule | weights.Ignore]:
  """The table of the CLIP tower, for patches of this side.

  The file holds the text tower as well, which Wan does not use.
  """
  layer = "visual.transformer.{i}"
  rules = [
      weights.Rule("visual.patch_embedding.weight", "patch/kernel",
                   weights.patch(patch, patch)),
      weights.Rule("visual.cls_embedding", "class",
                   weights.reshape((-1,), (1, 1, -1))),
      weights.Rule("visual.pos_embedding", "positions", weights.squeeze()),
      *weights.norm("visual.pre_norm", "norm_in"),
      *weights.norm("visual.post_norm", "norm"),
      *weights.norm(f"{layer}.norm1", "blocks/attention_norm"),
      *weights.norm(f"{layer}.norm2", "blocks/ffn_norm"),
      *weights.dense(f"{layer}.attn.proj", "blocks/o"),
      *weights.dense(f"{layer}.mlp.0", "blocks/ffn_in"),
      *weights.dense(f"{layer}.mlp.2", "blocks/ffn_out"),
  ]
  for piece, name in enumerate("qkv"):
    rules += [
        weights.Rule(f"{layer}.attn.to_qkv.weight", f"blocks/{name}/kernel",
                     weights.linear, pieces=(piece,), of=3),
        weights.Rule(f"{layer}.attn.to_qkv.bias", f"blocks/{name}/bias",
                     pieces=(piece,), of=3)]
  return [*rules, weights.Ignore(
      r"textual\..*|visual\.head|log_scale", "only the image tower is used")]
