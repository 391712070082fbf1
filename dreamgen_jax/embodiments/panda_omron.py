"""RoboCasa's Panda on an Omron base: OSC commands of the hand, 20 Hz.

Keys, order and id as GR00T's IDM has them; the commands lie in [-1, 1]. Of the
53 numbers of the state these are the ones that it reads, as recorded (GR00T
turns the quaternions into 6D). GR00T N1's release has no row for it (31 there).
"""

from dreamgen_jax import types

EMBODIMENT = types.Embodiment(
    name="panda_omron",
    id=13,
    state=(
        types.Key("end_effector_position_relative", 3, unit="m"),
        types.Key("end_effector_rotation_relative", 4, normalize="identity",
                  rotation="quaternion_xyzw"),
        types.Key("gripper_qpos", 2, unit="m"),
        types.Key("base_position", 3, unit="m"),
        types.Key("base_rotation", 4, normalize="identity",
                  rotation="quaternion_xyzw"),
    ),
    action=(
        types.Key("end_effector_position", 3, absolute=False),
        types.Key("end_effector_rotation", 3, absolute=False,
                  rotation="axis_angle"),
        types.Key("gripper_close", 1, kind="binary", normalize="identity",
                  gripper="closed"),
        types.Key("base_motion", 4, absolute=False),
        types.Key("control_mode", 1, kind="binary", normalize="identity"),
    ),
    cameras={"left_view": "left", "right_view": "right", "wrist_view": "wrist"},
    clock=types.Clock(video_hz=20.0, control_hz=20.0),
)
