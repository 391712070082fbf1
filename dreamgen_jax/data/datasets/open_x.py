"""The Open X-Embodiment sets that Octo is trained on, with its weights.

Which features hold what, gripper conventions and weights are those of Octo
(arXiv 2405.12213, octo/data/oxe); rates are those of the Open X-Embodiment
tables. Motions stay in each set's own units, so every robot has a row of its
own. DROID and Bridge V2 have modules of their own. Unlike Octo, instructions
that are the same in all episodes of a set are kept.
"""

import dataclasses

from dreamgen_jax import types
from dreamgen_jax.data import layout

_ANY = 1000  # more numbers than a feature has
_ROLES = {"primary": "front", "secondary": "front", "wrist": "wrist"}
_ROWS = {"google_robot": 9, "kuka": 10, "franka": 11, "jaco": 12, "sawyer": 14,
         "stretch": 15, "ur5": 16, "xarm": 18, "edan": 19, "fanuc": 20}
_WORLD = ("action/world_vector[0:3]", "action/rotation_delta[0:3]")
_PLAIN = ("action[0:3]", "action[3:6]")
_QUATERNION = layout.Column("action[3:7]", rotation="quaternion_xyzw")
_TOLD = "observation/natural_language_instruction"


def _gripper(path: str, one: str = "closed", over_time: str = ""):
  return layout.Column(path, gripper=one, over_time=over_time)


_COMMAND = _gripper("action/gripper_closedness_action", over_time="command")
_CLOSED = _gripper("action[6]")


def _dims(columns: layout.Columns) -> int:
  if isinstance(columns, tuple):
    return sum(map(_dims, columns))
  column = (columns if isinstance(columns, layout.Column)
            else layout.Column(columns))
  return 3 if column.rotation else len(column.entries(_ANY))


def _set(robot: str, hz: float, weight: float, cameras: dict[str, str],
         move: tuple[layout.Columns, ...], gripper: layout.Column | None,
         state: dict[str, layout.Columns], told: str = "language_instruction",
         **more) -> layout.Layout:
  """A layout and the embodiment that fits it.

  Args:
    robot: a key of _ROWS.
    hz, weight: see `layout.Layout`.
    cameras: "primary", "secondary", "wrist" -> feature of the observation.
    move: how the hand moves until the next step, and how it turns, if it does.
    gripper: what closes it, if anything does.
    state: key -> features, with their entries.
    told: feature that holds the instruction.
    **more: further fields of the layout.
  """
  action: dict[str, layout.Columns] = dict(zip(
      ("eef_position_delta", "eef_rotation_delta"), move, strict=False))
  keys = []
  for name, columns in action.items():
    turned = isinstance(columns, layout.Column) and columns.rotation
    keys.append(types.Key(
        name, _dims(columns), absolute=False, normalize="q99",
        rotation="axis_angle" if turned else ""))
  if gripper:
    action["gripper_close"] = gripper
    keys.append(types.Key("gripper_close", 1, kind="binary",
                          normalize="identity", gripper="closed"))
  return layout.Layout(
      embodiment=types.Embodiment(
          name=f"open_x_{robot}", id=_ROWS[robot],
          state=tuple(types.Key(name, _dims(columns))
                      for name, columns in state.items()),
          action=tuple(keys), cameras={name: _ROLES[name] for name in cameras},
          clock=types.Clock(hz, hz)),
      state=state, action=action, weight=weight, instruction=(told,),
      cameras={name: f"observation/{path}" for name, path in cameras.items()},
      **more)


def _joints(path: str, gripper: str) -> dict[str, layout.Columns]:
  return {"joint_position": path, "gripper": gripper}


_STATE = "observation/state"
_LAYOUTS = {
    "fractal20220817_data": _set(
        "google_robot", 3, 0.54087122203, dict(primary="image"), _WORLD,
        _COMMAND, {
            "eef_pose": "observation/base_pose_tool_reached[0:7]",
            "gripper": "observation/gripper_closed[0]"}, _TOLD),
    "kuka": _set(
        "kuka", 10, 0.8341046294, dict(primary="image"), _WORLD, _COMMAND, {
            "eef_pose": "observation/clip_function_input/"
                        "base_pose_tool_reached[0:7]",
            "gripper": "observation/gripper_closed[0]"}, _TOLD,
        success="success"),
    "taco_play": _set(
        "franka", 15, 2.0, dict(primary="rgb_static", wrist="rgb_gripper"),
        ("action/rel_actions_world[0:3]", "action/rel_actions_world[3:6]"),
        _gripper("action/rel_actions_world[6]", "open"), {
            "eef_pose": "observation/robot_obs[0:6]",
            "gripper": "observation/robot_obs[7]"}, _TOLD),
    "jaco_play": _set(
        "jaco", 10, 1.0, dict(primary="image", wrist="image_wrist"),
        _WORLD[:1], _COMMAND,
        {"eef_pose": "observation/end_effector_cartesian_pos[0:7]"}, _TOLD),
    "berkeley_cable_routing": _set(
        "franka", 10, 1.0, dict(primary="image", secondary="top_image",
                                wrist="wrist45_image"), _WORLD, None,
        {"robot_state": "observation/robot_state[0:7]"}, _TOLD),
    "roboturk": _set(
        "sawyer", 10, 2.0, dict(primary="front_rgb"), _WORLD,
        _gripper("action/gripper_closedness_action"), {}, _TOLD),
    "nyu_door_opening_surprising_effectiveness": _set(
        "stretch", 3, 1.0, dict(wrist="image"), _WORLD, _COMMAND, {}, _TOLD),
    "viola": _set(
        "franka", 20, 2.0, dict(primary="agentview_rgb",
                                wrist="eye_in_hand_rgb"), _WORLD,
        _gripper("action/gripper_closedness_action"),
        _joints("observation/joint_states[0:7]",
                "observation/gripper_states[0]"), _TOLD),
    "berkeley_autolab_ur5": _set(
        "ur5", 5, 2.0, dict(primary="image", wrist="hand_image"), _WORLD,
        _COMMAND, {"eef_pose": "observation/robot_state[6:13]",
                   "gripper": "observation/robot_state[13]"}, _TOLD),
    "toto": _set(
        "franka", 30, 1.0, dict(primary="image"), _WORLD,
        _gripper("action/open_gripper", "open"),
        {"joint_position": f"{_STATE}[0:7]"}, _TOLD),
    "language_table": _set(
        "xarm", 10, 0.1, dict(primary="rgb"), ("action[0:2]",), None,
        {"eef_position": "observation/effector_translation[0:2]"},
        "observation/instruction"),
    "stanford_hydra_dataset_converted_externally_to_rlds": _set(
        "franka", 10, 2.0, dict(primary="image", wrist="wrist_image"), _PLAIN,
        _CLOSED, {"eef_pose": f"{_STATE}[0:3,7:10]",
                  "gripper": f"{_STATE}[24]"}),
    "austin_buds_dataset_converted_externally_to_rlds": _set(
        "franka", 20, 1.0, dict(primary="image", wrist="wrist_image"), _PLAIN,
        _CLOSED, _joints(f"{_STATE}[0:7]", f"{_STATE}[7]")),
    "nyu_franka_play_dataset_converted_externally_to_rlds": _set(
        "franka", 3, 3.0, dict(primary="image",
                               secondary="image_additional_view"),
        ("action[7:10]", "action[10:13]"), _gripper("action[13]", "open"),
        {"eef_pose": f"{_STATE}[7:13]"}),
    "furniture_bench_dataset_converted_externally_to_rlds": _set(
        "franka", 10, 0.1, dict(primary="image", wrist="wrist_image"),
        ("action[0:3]", _QUATERNION), _gripper("action[7]"),
        {"eef_pose": f"{_STATE}[0:7]", "gripper": f"{_STATE}[34]"}),
    "ucsd_kitchen_dataset_converted_externally_to_rlds": _set(
        "xarm", 2, 2.0, dict(primary="image"), _PLAIN,
        _gripper("action[6]", "open"), {"joint_position": f"{_STATE}[0:7]"}),
    "austin_sailor_dataset_converted_externally_to_rlds": _set(
        "franka", 20, 1.0, dict(primary="image", wrist="wrist_image"), _PLAIN,
        _CLOSED, {"eef_pose": f"{_STATE}[0:7]", "gripper": f"{_STATE}[7]"}),
    "austin_sirius_dataset_converted_externally_to_rlds": _set(
        "franka", 20, 1.0, dict(primary="image", wrist="wrist_image"), _PLAIN,
        _CLOSED, {"eef_pose": f"{_STATE}[0:7]", "gripper": f"{_STATE}[7]"}),
    "bc_z": _set(
        "google_robot", 10, 0.2, dict(primary="image"),
        ("action/future/xyz_residual[0:3]",
         "action/future/axis_angle_residual[0:3]"),
        _gripper("action/future/target_close[0]"), {
            "eef_position": "observation/present/xyz[0:3]",
            "eef_rotation": "observation/present/axis_angle[0:3]",
            "gripper": "observation/present/sensed_close[0]"}, _TOLD),
    "dlr_edan_shared_control_converted_externally_to_rlds": _set(
        "edan", 5, 1.0, dict(primary="image"), _PLAIN, _CLOSED,
        {"eef_pose": f"{_STATE}[0:6]", "gripper": f"{_STATE}[6]"}),
    "iamlab_cmu_pickup_insert_converted_externally_to_rlds": _set(
        "franka", 20, 1.0, dict(primary="image", wrist="wrist_image"),
        ("action[0:3]", _QUATERNION), _gripper("action[7]", "open"),
        _joints(f"{_STATE}[0:7]", f"{_STATE}[7]")),
    "utaustin_mutex": _set(
        "franka", 20, 1.0, dict(primary="image", wrist="wrist_image"), _PLAIN,
        _CLOSED, _joints(f"{_STATE}[0:7]", f"{_STATE}[7]")),
    "berkeley_fanuc_manipulation": _set(
        "fanuc", 10, 2.0, dict(primary="image", wrist="wrist_image"), _PLAIN,
        _gripper(f"{_STATE}[6]"), _joints(f"{_STATE}[0:6]", f"{_STATE}[6]")),
    "cmu_stretch": _set(
        "stretch", 10, 1.0, dict(primary="image"), _PLAIN,
        _gripper("action[6]", "open"),
        {"eef_position": f"{_STATE}[0:3]", "gripper": f"{_STATE}[3]"}),
}
_VERSIONS = {"language_table": "0.0.1"}

DATASETS = {
    name: dataclasses.replace(found, home=(
        f"gs://gresearch/robotics/{name}/{_VERSIONS.get(name, '0.1.0')}"))
    for name, found in _LAYOUTS.items()}
