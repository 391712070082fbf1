"""Sizes of the released Wan models and of nano, and how they are sharded."""

import dataclasses

from dreamgen_jax.encoders import clip, t5
from dreamgen_jax.world_models.wan import dit, model, vae

_480P = dict(frames=81, height=480, width=832, video_hz=16.0)
_720P = _480P | dict(height=720, width=1280)
# Of the released `wan/configs`; what is told a frame has a word in front.
_NEGATIVE = (
    "色调艳丽 过曝 静态 细节模糊不清 字幕 风格 作品 画作 画面 "
    "静止 整体发灰 最差质量 低质量 JPEG压缩残留 丑陋的 残缺的 "
    "多余的手指 画得不好的手部 画得不好的脸部 畸形的 毁容的 "
    "形态畸形的肢体 手指融合 静止不动的画面 杂乱的背景 三条腿 "
    "背景人很多 倒着走").replace(" ", "\uff0c")
_SHAKING = "镜头晃动\uff0c" + _NEGATIVE
_WAN2_1 = model.Config(
    dit.PRESETS["i2v_14b"], vae.PRESETS["released"], t5.PRESETS["umt5_xxl"],
    image=clip.PRESETS["vit_h_14"], sample_shift=3.0, negative=_SHAKING,
    **_480P)

PRESETS = {
    "wan2_1_i2v_14b_480p": _WAN2_1,
    "wan2_1_i2v_14b_720p": dataclasses.replace(
        _WAN2_1, sample_shift=5.0, **_720P),
    "wan2_1_flf2v_14b": dataclasses.replace(
        _WAN2_1, transformer=dit.PRESETS["flf2v_14b"], given="both_ends",
        sample_shift=16.0, steps=50, guidance=5.5, **_720P),
    "wan2_1_t2v_1_3b": model.Config(
        dit.PRESETS["t2v_1b3"], vae.PRESETS["released"],
        t5.PRESETS["umt5_xxl"], given="none", sample_shift=8.0, steps=50,
        guidance=6.0, negative=_NEGATIVE, **_480P),
    "wan2_1_t2v_14b": model.Config(
        dit.PRESETS["t2v_14b"], vae.PRESETS["released"],
        t5.PRESETS["umt5_xxl"], given="none", sample_shift=5.0, steps=50,
        negative=_NEGATIVE, **_480P),
    "wan2_2_i2v_a14b": model.Config(
        dit.PRESETS["i2v_a14b"], vae.PRESETS["released"],
        t5.PRESETS["umt5_xxl"], boundary=0.9, guidance=3.5, sample_shift=5.0,
        negative=_NEGATIVE, **_480P),
    "wan2_2_ti2v_5b": model.Config(
        dit.PRESETS["ti2v_5b"], vae.PRESETS["released_2_2"],
        t5.PRESETS["umt5_xxl"], given="replace", frames=121, height=704,
        width=1280, video_hz=24.0, sample_shift=5.0, steps=50,
        negative=_NEGATIVE),
    # Trained from nothing on a simulated tabletop; see nano/README.md. CPUs
    # compute faster again than they write what a scan keeps.
    "nano": model.Config(
        dit.Config(width=192, heads=3, layers=8, ffn=768, in_channels=18,
                   out_channels=8, patch=(1, 4, 4), text_dim=128, text_len=16,
                   freq_dim=128, remat="full"),
        vae.PRESETS["nano"],
        t5.Config(vocabulary=512, width=128, heads=4, head_dim=32, ffn=256,
                  layers=2, bias_everywhere=True),
        frames=17, height=64, width=64, video_hz=5.0, train_shift=10.0,
        steps=2, guidance=1.0, weighted=False),
    # TI2V-5B's kind at nano size: its autoencoder's, told by replacement.
    "wan2_2_nano": model.Config(
        dit.Config(width=128, heads=2, layers=6, ffn=512, in_channels=8,
                   out_channels=8, patch=(1, 4, 4), text_dim=96, text_len=16,
                   freq_dim=128, remat="full"),
        vae.PRESETS["nano_2_2"],
        t5.Config(vocabulary=512, width=96, heads=3, head_dim=32, ffn=192,
                  layers=2, bias_everywhere=True),
        given="replace", frames=17, height=64, width=64, video_hz=5.0,
        train_shift=10.0, steps=2, guidance=1.0, weighted=False),
}

# Axes of the last dimensions; the stacked layer axis in front stays whole.
RULES = [
    (r"(q|k|v|k_image|v_image|ffn_in|wi.*)/kernel$", ("fsdp", "tensor")),
    (r"(o|ffn_out|wo)/kernel$", ("tensor", "fsdp")),
    (r"(patch|head|time_.*|text_.*|image_.*)/kernel$", ("fsdp", "tensor")),
    (r"lora_a$", ("fsdp", None)),
    (r"lora_b$", (None, "tensor")),
    (r"embed.*$", ("tensor", "fsdp")),
    (r".*", ()),
]
