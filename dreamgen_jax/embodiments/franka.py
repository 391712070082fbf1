"""Franka Panda with a Robotiq gripper as in DROID: motions of the hand, 15 Hz.

Keys, order and id as GR00T's IDM has them. Motions are those until the next
step, in the base's frame. GR00T N1's release has no row for it (31 there).
"""

from dreamgen_jax import types

EMBODIMENT = types.Embodiment(
    name="franka",
    id=17,
    state=(
        types.Key("eef_position", 3, unit="m"),
        types.Key("eef_rotation", 6, normalize="identity",
                  rotation="rotation_6d"),
        types.Key("gripper_position", 1, gripper="closed"),
    ),
    action=(
        types.Key("eef_position_delta", 3, unit="m", absolute=False,
                  normalize="q99"),
        types.Key("eef_rotation_delta", 3, unit="rad", kind="rotation",
                  absolute=False, normalize="identity", rotation="axis_angle"),
        types.Key("gripper_position", 1, kind="binary", normalize="identity",
                  gripper="closed"),
    ),
    cameras={"exterior_image_1_left": "left", "exterior_image_2_left": "right",
             "wrist_image_left": "wrist"},
    clock=types.Clock(video_hz=15.0, control_hz=15.0),
)
