"""Sizes of the released Diffusion Policy and of nano, and their sharding."""

import dataclasses

from dreamgen_jax.policies.diffusion_policy import model, transformer, vision

# Tabletop simulator at 64 pixels; trains on a laptop.
_NANO = model.Config(
    action_dim=5,
    state_dim=5,
    image_size=(64, 64),
    n_obs_steps=1,
    horizon=16,
    text_dim=64,
    state_flag=True,
    state_dropout=0.1,
    vision=vision.Config(
        widths=(32, 32), blocks=(1, 1), strides=(1, 1), stem_kernel=5,
        stem_stride=4, stem_pool=False, temperature=0.25, flat=8,
        film=True),
    widths=(32, 64, 128),
    step_width=64,
    sampler="ddim",
    inference_steps=10,
    # Few samples and few updates: errors of a predicted noise are
    # magnified at the noisy end, those of a predicted chunk are not.
    prediction="sample",
    late=2,
    # Targets are absolute and the camera stands still: a moved image
    # would be a wrong one.
    pad=1,
    crop=None,
    jitter=0.1,
)

PRESETS = {
    # The released hybrid image policy (image configs of the original
    # repository): one camera, no language; 255 M parameters in the U-Net.
    "hybrid_image": model.Config(),
    # The same with the transformer, as released: 9 M parameters in it.
    "hybrid_image_transformer": model.Config(
        horizon=10, transformer=transformer.Config()),
    "nano": _NANO,
    # The same for several verbs and colours: the sentence says what keypoints
    # look for, pixel by pixel, and most of a chunk is guessed at once. Colours
    # are what sentences name, so they stay.
    "nano_seeking": dataclasses.replace(
        _NANO,
        vision=vision.Config(
            widths=(16,), blocks=(0,), strides=(1,), stem_kernel=3,
            stem_stride=2, stem_norm=False, stem_pool=False,
            keypoints=16, temperature=0.025, query=True),
        widths=(32, 64), guess=256, pad=0, jitter=0.0),
}

# The last dims of a convolution are (in, out): split the wide one.
RULES = [
    (r"kernel$", ("fsdp", "tensor")),
    (r"(bias|scale|positions)$", ()),
]
