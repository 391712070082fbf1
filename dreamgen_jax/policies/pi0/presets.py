"""Sizes of pi0: the released ones, and one for the simulated tabletop."""

from dreamgen_jax.encoders import gemma, siglip
from dreamgen_jax.policies.pi0 import model

# Three views of 224 pixels, chunks of 50 steps, vectors of 32 entries.
_PI0 = model.Config(
    vision=siglip.Config(
        1152, 27, 16, 4304, 14, 224, dtype="bfloat16",
        embed_dtype="float32", remat="full"),
    language=gemma.PRESETS["gemma_2b"],
    expert=gemma.PRESETS["gemma_300m"],
    dtype="bfloat16",
    remat="full",
)

PRESETS = {
    "pi0": _PI0,
    "pi05": model.pi05(_PI0),
    # Tabletop simulator at 64 pixels; trains on a laptop. The camera stands
    # still and targets are absolute: a moved image would be a wrong one.
    "nano": model.Config(
        action_dim=5,
        state_dim=5,
        cameras=("front",),
        image_size=(64, 64),
        horizon=16,
        width=8,
        state_flag=True,
        vision=siglip.Config(64, 1, 2, 128, 8, 64),
        language=gemma.Config(64, 3, 128, 2, 1, 32),
        expert=gemma.Config(64, 3, 128, 2, 1, 32),
        vocabulary=512,
        text_length=24,
        normalize=None,
        padding_loss=False,
        crop=1.0,
        turn=0.0,
        jitter=(0.0, 0.0, 0.0),
        draws=2,
        state_dropout=0.5,
    ),
}

# openpi's adapters, for a stage's `lora` and `train.trainable`: experts and
# words are frozen, all around them is trained.
ADAPTERS = tuple(
    dict(rank=rank, alpha=float(rank),
         match=rf"blocks/{name}_\w+/(q|k|v|o|ffn_\w+)$")
    for name, rank in (("language", 16), ("action", 32)))
TUNED = r"^lora/|^base/(images|suffix|out)/"

# The last dims of a kernel are (in, out).
RULES = [
    (r"(q|k|v|in|ffn_gate|ffn_up)/kernel$", ("fsdp", "tensor")),
    (r"(o|out|ffn_out)/kernel$", ("tensor", "fsdp")),
    (r"token/embedding$", ("tensor", "fsdp")),
    (r"(patch/kernel|positions|modulation/kernel)$", (None, "fsdp")),
    (r".*", ()),
]
