"""DROID 1.0.1: 76,000 episodes of a Franka in 13 institutions, 15 Hz.

Features: https://droid-dataset.github.io/droid/the-droid-dataset. Actions are
what the hand did until the next step, not the commanded velocities; floats are
float32 on disk whatever the description says. Success is in the path only.
"""

from dreamgen_jax.data import layout
from dreamgen_jax.embodiments import franka

_POSE = "observation/cartesian_position"

DATASET = layout.Layout(
    embodiment=franka.EMBODIMENT,
    home="gs://gresearch/robotics/droid/1.0.1",
    state={
        "eef_position": f"{_POSE}[0:3]",
        "eef_rotation": layout.Column(f"{_POSE}[3:6]", rotation="euler_rpy"),
        "gripper_position": "observation/gripper_position",
    },
    action={
        "eef_position_delta": layout.Column(
            f"{_POSE}[0:3]", over_time="difference"),
        "eef_rotation_delta": layout.Column(
            f"{_POSE}[3:6]", rotation="euler_rpy", over_time="difference"),
        "gripper_position": "action_dict/gripper_position",
    },
    cameras={camera: f"observation/{camera}" for camera in (
        "exterior_image_1_left", "exterior_image_2_left",
        "wrist_image_left")},
    instruction=("language_instruction", "language_instruction_2",
                 "language_instruction_3"),
    success="episode_metadata/file_path",
    success_pattern="success",
    only_success=True,
    idle=layout.Idle(below=1e-3, seconds=1.0),
    source_id="episode_metadata/recording_folderpath",
)
