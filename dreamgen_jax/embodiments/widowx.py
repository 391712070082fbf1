"""WidowX 250 as in Bridge V2: motions of the hand at 5 Hz, four cameras.

Motions are those until the next step, in the base's frame. GR00T knows no such
robot (31 is its row for new ones); the row is one of our own.
"""

from dreamgen_jax import types

EMBODIMENT = types.Embodiment(
    name="widowx",
    id=8,
    state=(
        types.Key("eef_position", 3, unit="m"),
        types.Key("eef_rotation", 3, unit="rad", kind="rotation",
                  rotation="axis_angle"),
        types.Key("gripper_opening", 1, gripper="open"),
    ),
    action=(
        types.Key("eef_position_delta", 3, unit="m", absolute=False,
                  normalize="q99"),
        # Small turns are as good as positions, and need their scale.
        types.Key("eef_rotation_delta", 3, unit="rad", absolute=False,
                  normalize="q99", rotation="axis_angle"),
        types.Key("gripper_close", 1, kind="binary", normalize="identity",
                  gripper="closed"),
    ),
    cameras={"over_shoulder": "front", "left": "left", "right": "right",
             "wrist": "wrist"},
    clock=types.Clock(video_hz=5.0, control_hz=5.0),
)
