"""Bridge V2 1.0.0, as Berkeley publishes it: a WidowX 250 at 5 Hz.

https://rail.eecs.berkeley.edu/datasets/bridge_release/data/tfds/bridge_dataset.
Actions are what the hand did until the next step and the gripper's settled
command, as Octo relabels them. Its flags has_image_* are not to be trusted.
"""

from dreamgen_jax.data import layout
from dreamgen_jax.embodiments import widowx

_POSE = "observation/state"

DATASET = layout.Layout(
    embodiment=widowx.EMBODIMENT,
    state={
        "eef_position": f"{_POSE}[0:3]",
        "eef_rotation": layout.Column(f"{_POSE}[3:6]", rotation="euler_rpy"),
        "gripper_opening": f"{_POSE}[6]",
    },
    action={
        "eef_position_delta": layout.Column(
            f"{_POSE}[0:3]", over_time="difference"),
        "eef_rotation_delta": layout.Column(
            f"{_POSE}[3:6]", rotation="euler_rpy", over_time="difference"),
        "gripper_close": layout.Column(
            "action[6]", gripper="open", over_time="settle"),
    },
    # The other views are black in most episodes.
    cameras={"over_shoulder": "observation/image_0"},
    source_id="episode_metadata/file_path",
)
