"""Tests of registered datasets: what they say fits what is known of them."""

import dataclasses

import numpy as np
import pytest

from dreamgen_jax import errors
from dreamgen_jax.data import catalogue, columns, description, layout


def field(shape=(), dtype="float32", coding="numbers", in_steps=True):
  return description.Field(shape, dtype, coding, in_steps)


IMAGE = field((256, 256, 3), "uint8", "image")
TEXT = field((), "text", "text")
RTX = {"steps/action/world_vector": field((3,)),
       "steps/action/rotation_delta": field((3,)),
       "steps/action/gripper_closedness_action": field((1,)),
       "steps/observation/image": IMAGE,
       "steps/observation/natural_language_instruction": TEXT}
# As their features.json and catalogue pages have them.
FEATURES = {
    "droid": {
        **{f"steps/observation/{name}": IMAGE for name in (
            "exterior_image_1_left", "exterior_image_2_left",
            "wrist_image_left")},
        **{f"steps/observation/{name}": field((n,), "float64")
           for name, n in (("gripper_position", 1), ("joint_position", 7),
                           ("cartesian_position", 6))},
        "steps/action_dict/gripper_position": field((1,), "float64"),
        **{f"steps/language_instruction{n}": TEXT for n in ("", "_2", "_3")},
        **{f"episode_metadata/{name}": field((), "text", "text", False)
           for name in ("recording_folderpath", "file_path")}},
    "bridge_dataset": {
        "steps/action": field((7,)), "steps/observation/state": field((7,)),
        **{f"steps/observation/image_{i}": IMAGE for i in range(4)},
        "steps/language_instruction": TEXT,
        "episode_metadata/file_path": field((), "text", "text", False)},
    "fractal20220817_data": RTX | {
        "steps/observation/base_pose_tool_reached": field((7,)),
        "steps/observation/gripper_closed": field((1,))},
    "kuka": RTX | {
        "steps/observation/clip_function_input/base_pose_tool_reached": field(
            (7,), coding="zlib"),
        "steps/observation/gripper_closed": field((1,), coding="zlib"),
        "success": field((), "bool", in_steps=False)},
    "bc_z": {
        "steps/action/future/xyz_residual": field((30,)),
        "steps/action/future/axis_angle_residual": field((30,)),
        "steps/action/future/target_close": field((10,), "int64"),
        "steps/observation/present/xyz": field((3,)),
        "steps/observation/present/axis_angle": field((3,)),
        "steps/observation/present/sensed_close": field((1,)),
        "steps/observation/image": IMAGE,
        "steps/observation/natural_language_instruction": TEXT},
    "toto": RTX | {"steps/action/open_gripper": field((), "bool"),
                   "steps/observation/state": field((7,))},
    "language_table": {
        "steps/action": field((2,)), "steps/observation/rgb": IMAGE,
        "steps/observation/effector_translation": field((2,)),
        "steps/observation/instruction": field((512,), "int32")},
    "stanford_hydra_dataset_converted_externally_to_rlds": {
        "steps/action": field((7,)), "steps/observation/state": field((27,)),
        "steps/observation/image": IMAGE,
        "steps/observation/wrist_image": IMAGE,
        "steps/language_instruction": TEXT},
}


def test_all_are_there():
  names = catalogue.names()
  assert {"droid", "bridge_dataset", "tabletop", "neural_trajectories"} < set(
      names)
  assert len(names) == 4 + 24  # Octo's 25, of which Bridge V2 is one


@pytest.mark.parametrize("name", catalogue.names())
def test_a_layout_is_whole(name):
  found = catalogue.find(name)
  if isinstance(found, layout.Native):
    return
  robot = found.embodiment
  assert layout.Layout.from_json(found.to_json()) == found
  assert found.weight > 0 and robot.clock.control_hz > 0
  assert list(found.action) == [key.name for key in robot.action]
  binary = [key for key in robot.action if key.kind == "binary"]
  assert all(key.gripper == "closed" for key in binary)
  if not name.startswith("bridge"):  # which is not in the cloud
    assert found.home.startswith("gs://")


@pytest.mark.parametrize("name", FEATURES)
def test_a_layout_fits_its_features(name):
  there = description.Description(
      "folder", name, FEATURES[name], (), "tfrecord", {})
  found = catalogue.find(name)
  resolved = columns.names(found, there)
  assert set(resolved.values()) <= set(FEATURES[name])
  rng = np.random.default_rng(0)

  def read(path):
    return rng.random((4, there.fields[resolved[path]].size))

  for kind in ("state", "action"):
    keys = getattr(found.embodiment, kind)
    values = columns.vector(found.columns(kind), keys, read)
    assert values.shape == (4, sum(key.dims for key in keys))


def test_files_of_ones_own(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text("from dreamgen_jax.data import catalogue\n"
                  "DATASET = catalogue.find('droid')\n")
  assert catalogue.find(str(file)) == catalogue.find("droid")
  file.write_text("DATASET = 1")
  with pytest.raises(errors.ConfigError, match="exports no DATASET"):
    catalogue.find(str(file))
  file.write_text("import nothing_of_the_kind")
  with pytest.raises(errors.ConfigError, match="ModuleNotFoundError"):
    catalogue.find(str(file))
  with pytest.raises(errors.ConfigError, match="Did you mean 'droid'"):
    catalogue.find("droit")


def test_cameras_and_rates_follow_the_layout():
  found = catalogue.find("bridge_dataset")
  assert list(found.embodiment.cameras) == ["over_shoulder"]
  fast = dataclasses.replace(found, hz=7.0)
  assert fast.embodiment.clock.video_hz == 7.0
