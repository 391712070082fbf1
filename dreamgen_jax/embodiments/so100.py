"""SO-100: six absolute joint angles in degrees at 30 Hz, one webcam.

Keys and id as GR00T's IDM has them; joints have limits, so their angles are
positions on a line. GR00T N1's release has no row for it (31 there).
"""

from dreamgen_jax import types

_KEYS = tuple(
    types.Key(f"main_{name}", 1, unit="deg")
    for name in ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex",
                 "wrist_roll", "gripper"))

EMBODIMENT = types.Embodiment(
    name="so100",
    id=26,
    state=_KEYS,
    action=_KEYS,
    cameras={"webcam": "front"},
    clock=types.Clock(video_hz=30.0, control_hz=30.0),
)
