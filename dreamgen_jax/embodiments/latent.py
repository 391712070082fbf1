"""No robot: latent actions, learnt from video, where actions would be.

The width is that of DreamGen's latents, 16 slots of 32; stages narrow it to
the labeler at hand. The rates are DreamGen's generated videos'. There is no
gripper. The row is the last of the nano models' eight.
"""

from dreamgen_jax import types

EMBODIMENT = types.Embodiment(
    name="latent",
    id=7,
    # Never known; records hold no vector of no width.
    state=(types.Key("unknown", 1, normalize="identity"),),
    # Some latents lie far out; they must not squeeze all others.
    action=(types.Key("latent", 512, normalize="q99"),),
    cameras={"front": "front"},
    clock=types.Clock(video_hz=16.0, control_hz=16.0),
)
