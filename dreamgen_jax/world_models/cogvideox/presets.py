"""Sizes of the released CogVideoX models and of nano; how they are sharded."""

from typing import Any

from dreamgen_jax.encoders import t5
from dreamgen_jax.world_models.cogvideox import dit, model, vae

_T5 = t5.PRESETS["t5_v11_xxl"]
# As the authors' own program samples; diffusers' defaults are the class's.
_SAMPLING = dict(sampler="dpm", dynamic_guidance=True)

PRESETS = {
    "cogvideox_5b_i2v": model.Config(
        dit.PRESETS["cogvideox_5b_i2v"], vae.PRESETS["cogvideox"], _T5,
        frames=49, height=480, width=720, video_hz=8.0, **_SAMPLING),
    "cogvideox1_5_5b_i2v": model.Config(
        dit.PRESETS["cogvideox1_5_5b_i2v"], vae.PRESETS["cogvideox1_5"], _T5,
        frames=81, height=768, width=1360, video_hz=16.0, **_SAMPLING),
    "nano": model.Config(
        dit.Config(width=128, heads=4, layers=6, in_channels=16,
                   out_channels=8, patch=(2, 4, 4), text_dim=128, text_len=16,
                   time_dim=64, offset=True),
        vae.PRESETS["nano"],
        t5.Config(vocabulary=512, width=128, heads=4, head_dim=32, ffn=256,
                  layers=2),
        frames=17, height=64, width=64, video_hz=5.0, steps=20, guidance=3.0),
}

# Axes of the last dimensions; the stacked layer axis in front stays whole.
RULES = [
    (r"(q|k|v|ffn_in|ffn_gate|ffn_up|linear)/kernel$", ("fsdp", "tensor")),
    (r"(o|ffn_out)/kernel$", ("tensor", "fsdp")),
    (r"(patch|text|head|head_modulation)/kernel$", ("fsdp", "tensor")),
    (r"(time|offset)_(in|out)/kernel$", ("fsdp", "tensor")),
    (r"lora_a$", ("fsdp", None)),
    (r"lora_b$", (None, "tensor")),
    (r"token/embedding$", ("tensor", "fsdp")),
    (r".*", ()),
]


def describe(config: model.Config) -> dict[str, dict[str, Any]]:
  """The config.json of each part, in the released files' words."""
  t, v, e = config.transformer, config.vae, config.text
  pt, space, _ = t.patch
  transformer = {
      "_class_name": "CogVideoXTransformer3DModel",
      "num_attention_heads": t.heads, "attention_head_dim": t.head_dim,
      "in_channels": t.in_channels, "out_channels": t.out_channels,
      "time_embed_dim": t.time_dim, "text_embed_dim": t.text_dim,
      "num_layers": t.layers, "patch_size": space,
      "patch_size_t": pt if pt > 1 else None,
      "max_text_seq_length": t.text_len,
      "temporal_compression_ratio": v.time_factor, "attention_bias": True,
      "use_rotary_positional_embeddings": True,
      "use_learned_positional_embeddings": t.positions is not None,
      "ofs_embed_dim": t.time_dim if t.offset else None,
      # Said of 1.5, and not so: its patches' map has one.
      "patch_bias": pt == 1}
  if t.positions is not None:  # without, the size is open
    _, height, width, _ = config.latent_shape
    transformer |= {"sample_height": height, "sample_width": width,
                    "sample_frames": config.frames}
  levels = len(v.widths)
  return {
      "transformer": transformer,
      "vae": {
          "_class_name": "AutoencoderKLCogVideoX",
          "in_channels": 3, "out_channels": 3,
          "down_block_types": ["CogVideoXDownBlock3D"] * levels,
          "up_block_types": ["CogVideoXUpBlock3D"] * levels,
          "block_out_channels": list(v.widths),
          "latent_channels": v.latent_channels, "layers_per_block": v.blocks,
          "norm_num_groups": v.groups,
          "temporal_compression_ratio": v.time_factor,
          "scaling_factor": v.scale, "invert_scale_latents": v.divides_image},
      "text": {
          "architectures": ["T5EncoderModel"], "model_type": "t5",
          "feed_forward_proj": "gated-gelu", "vocab_size": e.vocabulary,
          "d_model": e.width, "d_kv": e.head_dim, "d_ff": e.ffn,
          "num_layers": e.layers, "num_heads": e.heads,
          "relative_attention_num_buckets": e.buckets,
          "relative_attention_max_distance": e.max_distance},
  }
