"""Sizes of the released GR00T N1 and of nano, and how they are sharded."""

import dataclasses

from dreamgen_jax.encoders import llama, siglip
from dreamgen_jax.policies.groot_n1 import backbone, head, model, prompt

PRESETS = {
    # nvidia/GR00T-N1-2B: 2,190,016,752 parameters, computed in bfloat16.
    "n1_2b": model.Config(
        backbone.Config(
            vision=dataclasses.replace(
                siglip.PRESETS["siglip-so400m-patch14-224"], pooling=False,
                dtype="bfloat16"),
            language=dataclasses.replace(
                llama.PRESETS["eagle2_smollm2_1_7b"], dtype="bfloat16"),
            width=1536, image_token=49_154),
        head.Config(dtype="bfloat16")),
    # The tabletop at 64 pixels: absolute targets, so nothing moves the image;
    # no chat, as its tokenizer knows only the words of the tasks.
    "nano": model.Config(
        backbone.Config(
            vision=siglip.Config(
                width=64, depth=1, heads=2, mlp_width=128, patch=8,
                image_size=64),
            language=llama.Config(
                512, 64, 2, 2, 32, 128, 3, skip=0, padding_attends=False),
            width=64, image_token=511),
        head.Config(
            state_width=8, action_width=8, width=64, heads=2, depth=2,
            dropout=0.0, hidden=64, positions=32, embodiments=8),
        prompt.Config(
            template="{images}{instruction}", image="{patches}", numbered="",
            padding=0, room=16),
        action_dim=5, state_dim=5, cameras=("front",), image_size=(64, 64),
        crop=1.0, jitter=(0.0, 0.0, 0.0, 0.0), resizes=(64,),
        sees_padding=False, sample_steps=4, draws=2),
}

# What NVIDIA's fine-tuning script trains: `config.train.trainable`.
TUNED = r"^(?!backbone/language/)"

RULES = [
    (r"(q|k|v|in|ffn_gate|ffn_up|modulation|time_in)/kernel$",
     ("fsdp", "tensor")),
    (r"(o|out|ffn_out|time_out)/kernel$", ("tensor", "fsdp")),
    (r"action_encoder/\w+/kernel$", ("fsdp", "tensor")),
    (r"token/embedding$", ("tensor", "fsdp")),
    (r"(patch/kernel|positions)$", (None, "fsdp")),
    (r".*", ()),
]
