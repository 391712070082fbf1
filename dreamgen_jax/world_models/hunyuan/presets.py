"""Sizes of the released models and of nano; sharding; descriptions."""

import dataclasses
from typing import Any

from dreamgen_jax.encoders import clip, clip_text, llama, llava
from dreamgen_jax.world_models.hunyuan import dit, model, prompt, vae

_I2V = model.Config(
    dit.PRESETS["i2v"], vae.PRESETS["released"],
    llava.PRESETS["llava_llama3_8b"], clip_text.PRESETS["vit_l_14"],
    prompt.RELEASED, frames=129, height=720, width=1280, video_hz=24.0,
    negative=("deformation, a poor composition and deformed video, bad teeth, "
              "bad eyes, bad limbs"))


def by_channels(config: model.Config, frames: int) -> model.Config:
  """The kind that is told the frame by channels, and no guidance."""
  t, p = config.transformer, config.prompt
  return dataclasses.replace(
      config, frames=frames, guidance=1.0,
      transformer=dataclasses.replace(
          t, in_channels=2 * t.in_channels + 1, image=dit.CONCAT,
          guidance=False),
      prompt=dataclasses.replace(p, image_every=p.image_every // 2))


PRESETS = {
    "hunyuanvideo_i2v": _I2V,
    # Denoises 129 frames, four of which do not come out.
    "hunyuanvideo_i2v_33ch": by_channels(_I2V, frames=125),
    "nano": model.Config(
        dit.Config(width=96, heads=2, ffn=384, dual_layers=2, single_layers=4,
                   refiner_layers=1, text_dim=64, pooled_dim=64,
                   rotary=(16, 16, 16), image=dit.REPLACE),
        vae.PRESETS["nano"],
        llava.Config(
            clip.Config(width=32, depth=2, heads=2, mlp_width=64, patch=8,
                        image_size=32, activation="quick_gelu"),
            llama.Config(vocabulary=512, width=64, heads=4, kv_heads=2,
                         head_dim=16, ffn=128, layers=4),
            image_token=511),
        clip_text.Config(vocabulary=512, width=64, depth=2, heads=4,
                         mlp_width=128, begin=None, end=1, length=16),
        prompt.Config("<image>{}", start=1, tail=0, length=16, image_every=4),
        frames=17, height=64, width=64, video_hz=5.0, steps=20),
}

# Axes of the last dimensions; the stacked layer axis in front stays whole.
RULES = [
    (r"/(q|k|v|ffn_in|ffn_gate|ffn_up|modulation|gates)/kernel$",
     ("fsdp", "tensor")),
    (r"/(o|ffn_out)/kernel$", ("tensor", "fsdp")),
    (r"/(patch|in|out|head|head_modulation|projector_in|projector_out)/kernel$",
     ("fsdp", "tensor")),
    (r"lora_a$", ("fsdp", None)),
    (r"lora_b$", (None, "tensor")),
    (r"token/embedding$", ("tensor", "fsdp")),
    (r".*", ()),
]


def describe(config: model.Config) -> dict[str, dict[str, Any]]:
  """The config.json of each part, in the released files' words."""
  t, v, s = config.transformer, config.vae, config.text_2
  pt, space, _ = t.patch
  levels = len(v.widths)
  return {
      "transformer": {
          "_class_name": "HunyuanVideoTransformer3DModel",
          "in_channels": t.in_channels, "out_channels": t.out_channels,
          "num_attention_heads": t.heads,
          "attention_head_dim": t.width // t.heads,
          "num_layers": t.dual_layers, "num_single_layers": t.single_layers,
          "num_refiner_layers": t.refiner_layers,
          "mlp_ratio": t.ffn / t.width, "patch_size": space,
          "patch_size_t": pt, "qk_norm": "rms_norm",
          "guidance_embeds": t.guidance, "text_embed_dim": t.text_dim,
          "pooled_projection_dim": t.pooled_dim, "rope_theta": t.theta,
          "rope_axes_dim": list(t.rotary), "image_condition_type": t.image},
      "vae": {
          "_class_name": "AutoencoderKLHunyuanVideo",
          "in_channels": 3, "out_channels": 3, "latent_channels": v.z_dim,
          "down_block_types": ["HunyuanVideoDownBlock3D"] * levels,
          "up_block_types": ["HunyuanVideoUpBlock3D"] * levels,
          "block_out_channels": list(v.widths),
          "layers_per_block": v.num_res_blocks, "act_fn": "silu",
          "norm_num_groups": v.groups, "scaling_factor": v.scale,
          "spatial_compression_ratio": v.space_factor,
          "temporal_compression_ratio": v.time_factor,
          "mid_block_add_attention": True},
      "text": _describe_llava(config.text),
      "text_2": {
          "architectures": ["CLIPTextModel"], "model_type": "clip_text_model",
          "vocab_size": s.vocabulary, "hidden_size": s.width,
          "intermediate_size": s.mlp_width, "num_hidden_layers": s.depth,
          "num_attention_heads": s.heads,
          "max_position_embeddings": s.length, "hidden_act": s.activation,
          "layer_norm_eps": s.epsilon},
  }


def _describe_llava(config: llava.Config) -> dict[str, Any]:
  s, r = config.vision, config.language
  return {
      "architectures": ["LlavaForConditionalGeneration"],
      "model_type": "llava", "image_token_index": config.image_token,
      "projector_hidden_act": "gelu", "vision_feature_layer": -2,
      "vision_feature_select_strategy": "default",
      "text_config": {
          "architectures": ["LlamaForCausalLM"], "model_type": "llama",
          "vocab_size": r.vocabulary, "hidden_size": r.width,
          "intermediate_size": r.ffn, "num_hidden_layers": r.layers,
          "num_attention_heads": r.heads, "num_key_value_heads": r.kv_heads,
          "head_dim": r.head_dim, "rope_theta": r.theta,
          "rms_norm_eps": r.epsilon, "hidden_act": "silu"},
      "vision_config": {
          "architectures": ["CLIPVisionModel"],
          "model_type": "clip_vision_model", "hidden_size": s.width,
          "intermediate_size": s.mlp_width, "num_hidden_layers": s.depth,
          "num_attention_heads": s.heads, "image_size": s.image_size,
          "patch_size": s.patch, "hidden_act": s.activation},
  }
