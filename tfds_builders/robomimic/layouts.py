"""Where robomimic's files keep what an embodiment wants, by name.

Paths are those inside a demonstration.
"""

from dreamgen_jax.data import layout
from dreamgen_jax.embodiments import panda_omron

_OBS, _ACTIONS = "obs/robot0", "actions"

LAYOUTS = {
    # Actions: hand 6, gripper, base 3, torso, mode; commands in [-1, 1].
    "robocasa": layout.Layout(
        embodiment=panda_omron.EMBODIMENT,
        state={
            "end_effector_position_relative": f"{_OBS}_base_to_eef_pos",
            "end_effector_rotation_relative": f"{_OBS}_base_to_eef_quat",
            "gripper_qpos": f"{_OBS}_gripper_qpos",
            "base_position": f"{_OBS}_base_pos",
            "base_rotation": f"{_OBS}_base_quat",
        },
        action={
            "end_effector_position": f"{_ACTIONS}[0:3]",
            "end_effector_rotation": f"{_ACTIONS}[3:6]",
            "gripper_close": layout.Column(
                f"{_ACTIONS}[6]", gripper="closed", scale=0.5, offset=0.5),
            "base_motion": f"{_ACTIONS}[7:11]",
            "control_mode": layout.Column(
                f"{_ACTIONS}[11]", scale=0.5, offset=0.5),
        },
        cameras={
            "left_view": f"{_OBS}_agentview_left_image",
            "right_view": f"{_OBS}_agentview_right_image",
            "wrist_view": f"{_OBS}_eye_in_hand_image",
        },
        hz=20.0,
    ),
}
