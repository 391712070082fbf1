"""Franka Panda in robosuite and LIBERO: OSC commands of the hand, 20 Hz.

Commands lie in [-1, 1]; 1 sets the goal 5 cm or 0.5 rad ahead of the hand,
about a fifth of which it covers in a step. The state is that of LIBERO's
recordings, rotations with an angle in [0, 2 pi].
"""

from dreamgen_jax import types

EMBODIMENT = types.Embodiment(
    name="panda_osc",
    id=28,
    state=(
        types.Key("eef_position", 3, unit="m"),
        types.Key("eef_rotation", 3, unit="rad"),
        types.Key("gripper_qpos", 2, unit="m"),
    ),
    action=(
        types.Key("eef_position_delta", 3, absolute=False),
        types.Key("eef_rotation_delta", 3, absolute=False),
        types.Key("gripper_close", 1, kind="binary", normalize="identity",
                  gripper="closed"),
    ),
    cameras={"agentview": "front", "wrist": "wrist"},
    clock=types.Clock(video_hz=20.0, control_hz=20.0),
)
