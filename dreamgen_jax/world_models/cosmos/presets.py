"""Sizes of the released Cosmos-Predict2 models and of nano; sharding."""

from typing import Any

from dreamgen_jax.encoders import t5
from dreamgen_jax.world_models.cosmos import dit, model
from dreamgen_jax.world_models.wan import vae, vae_weights

_PICTURES = {"480p": (432, 768), "720p": (704, 1280)}
_FRAMES = {10: 61, 16: 93}  # by video rate
# Of the released pipeline.
_NEGATIVE = (
    "The video captures a series of frames showing ugly scenes, static with no "
    "motion, motion blur, over-saturation, shaky footage, low resolution, "
    "grainy texture, pixelated images, poorly lit areas, underexposed and "
    "overexposed scenes, poor color balance, washed out colors, choppy "
    "sequences, jerky movements, low frame rate, artifacting, color banding, "
    "unnatural transitions, outdated special effects, fake elements, "
    "unconvincing visuals, poorly edited content, jump cuts, visual noise, and "
    "flickering. Overall, the video is of poor quality.")


def _released(size: str, picture: str = "480p", hz: int = 16) -> model.Config:
  height, width = _PICTURES[picture]
  return model.Config(
      dit.PRESETS[size], vae.PRESETS["released"], t5.PRESETS["t5_11b"],
      frames=_FRAMES[hz], height=height, width=width, video_hz=float(hz),
      negative=_NEGATIVE)


PRESETS = {
    # nvidia/Cosmos-Predict2-<size>-Video2World, model-<picture>-<hz>fps.pt
    **{
        f"predict2_{size}_{picture}_{hz}fps": _released(size, picture, hz)
        for size in dit.PRESETS for picture in _PICTURES for hz in _FRAMES
    },
    # nvidia/Cosmos-Predict2-14B-Sample-GR00T-Dreams-<robot>
    "groot_dreams_gr1": _released("14b"),
    "groot_dreams_droid": _released("14b"),
    # For a simulated tabletop, to be trained from nothing.
    "nano": model.Config(
        dit.Config(width=192, heads=3, layers=4, ffn=768,
                   in_channels=8 + model.MASKS, out_channels=8,
                   patch=(1, 4, 4), text_dim=128, text_len=16, rank=16,
                   stretch=(1.0, 1.0, 1.0)),
        vae.PRESETS["nano"],
        t5.Config(vocabulary=512, width=128, heads=4, head_dim=32, ffn=256,
                  layers=2, gated=False),
        frames=17, height=64, width=64, video_hz=5.0, given=(1, 1),
        frame_dropout=0.0, loss_scale=1.0, steps=20, guidance=2.0),
}

# Axes of the last dimensions; the stacked layer axis in front stays whole.
RULES = [
    (r"/(q|k|v|ffn_in|ffn_gate|ffn_up|down)/kernel$", ("fsdp", "tensor")),
    (r"/(o|ffn_out)/kernel$", ("tensor", "fsdp")),
    (r"/(up|patch|head|time_in|time_out)/kernel$", ("fsdp", "tensor")),
    (r"lora_a$", ("fsdp", None)),
    (r"lora_b$", (None, "tensor")),
    (r"/embedding$", ("tensor", "fsdp")),
    (r".*", ()),
]


def describe(config: model.Config) -> dict[str, dict[str, Any]]:
  """The config.json of each part, in the released files' words."""
  t, e = config.transformer, config.text
  return {
      "transformer": {
          "_class_name": "CosmosTransformer3DModel",
          # The padding mask is not counted, the condition mask is.
          "in_channels": t.in_channels - 1, "concat_padding_mask": True,
          "out_channels": t.out_channels, "patch_size": list(t.patch),
          "num_attention_heads": t.heads, "attention_head_dim": t.head_dim,
          "num_layers": t.layers, "mlp_ratio": t.ffn / t.width,
          "text_embed_dim": t.text_dim, "adaln_lora_dim": t.rank,
          "rope_scale": list(t.stretch), "extra_pos_embed_type": None},
      "vae": vae_weights.describe(config.vae),
      "text": {
          "architectures": ["T5EncoderModel"], "model_type": "t5",
          "vocab_size": e.vocabulary, "d_model": e.width, "d_kv": e.head_dim,
          "d_ff": e.ffn, "num_layers": e.layers, "num_heads": e.heads,
          "feed_forward_proj": "gated-gelu" if e.gated else "relu",
          "relative_attention_num_buckets": e.buckets,
          "relative_attention_max_distance": e.max_distance},
  }
