"""Fourier GR1: 44 absolute joint angles at 20 Hz, one camera in the head.

Layout, rates and id as in GR00T's data. Legs and neck never move in its
recordings and are passed through; joints have limits, so their angles are
positions on a line.
"""

from dreamgen_jax import types

_FIXED = {"left_leg", "neck", "right_leg"}
_JOINTS = (
    ("left_arm", 7), ("left_hand", 6), ("left_leg", 6), ("neck", 3),
    ("right_arm", 7), ("right_hand", 6), ("right_leg", 6), ("waist", 3),
)
_KEYS = tuple(
    types.Key(
        name, dims, unit="rad",
        normalize="identity" if name in _FIXED else "min_max",
    )
    for name, dims in _JOINTS
)

EMBODIMENT = types.Embodiment(
    name="gr1",
    id=24,
    state=_KEYS,
    action=_KEYS,
    cameras={"ego_view": "ego"},
    clock=types.Clock(video_hz=20.0, control_hz=20.0),
)
