"""What the robots of the embedded tabletop share: one action, one state."""

from dreamgen_jax import types

CLOCK = types.Clock(video_hz=5.0, control_hz=5.0)

ACTION = (
    types.Key("eef_position", 3, unit="m"),
    types.Key("eef_yaw", 1, unit="rad"),  # within +-1.5, so it never wraps
    types.Key("gripper_close", 1, kind="binary", normalize="identity"),
)
STATE = (
    types.Key("eef_position", 3, unit="m"),
    types.Key("eef_yaw", 1, unit="rad"),  # within +-1.5, so it never wraps
    types.Key("gripper_opening", 1),
)


def embodiment(name: str, row: int) -> types.Embodiment:
  """An arm whose gripper points down, told where to be at 5 Hz.

  The action is an absolute target in the robot's base frame; the state is the
  same, measured, with the gripper's opening in [0, 1] in place of the command.
  """
  return types.Embodiment(
      name=name,
      id=row,
      state=STATE,
      action=ACTION,
      cameras={"front": "front"},
      clock=CLOCK,
  )
