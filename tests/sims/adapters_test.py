"""Adapters of other simulators, against their documented interfaces.

The stand-ins have the names, shapes and conventions that the packages' own
documentation and sources have; `adapters_package_test` is for the packages.
"""

import importlib
import importlib.util
import sys
import types

import gymnasium
import numpy as np
import pytest

from dreamgen_jax import errors, registry

SIDE = 6


def panda():
  rows = np.arange(SIDE, dtype=np.uint8)[:, None, None]
  image = np.broadcast_to(rows, (SIDE, SIDE, 3)).copy()
  image[:, 0] = 99
  return {
      "agentview_image": image, "robot0_eye_in_hand_image": image,
      "robot0_eef_pos": np.array([1.0, 2.0, 3.0]),
      "robot0_eef_quat": np.array([0.0, 0.0, np.sqrt(0.5), -np.sqrt(0.5)]),
      "robot0_gripper_qpos": np.array([0.04, -0.04])}


class Robosuite:
  """What robosuite.make gives: the old gym API."""

  def __init__(self, task, **kw):
    assert kw["camera_names"] == ["agentview", "robot0_eye_in_hand"]
    assert kw["ignore_done"]  # or more steps than its own horizon raise
    self.commands = []
    self.rng = self._sampler = np.random.default_rng()  # kept for good

  def reset(self):
    self.placed = self._sampler.random()
    return panda()

  def step(self, action):
    self.commands.append(action)
    return panda(), 0.0, False, {}

  def _check_success(self):
    return len(self.commands) >= 2

  def close(self):
    self.closed = True


class Libero(Robosuite):
  """What libero's OffScreenRenderEnv is."""

  language_instruction = "the file's words"

  def __init__(self, bddl_file_name, **kw):
    assert bddl_file_name == "bddl/kitchen/task.bddl"
    super().__init__("", camera_names=["agentview", "robot0_eye_in_hand"], **kw)

  def seed(self, seed):
    del seed

  def set_init_state(self, state):
    self.placed = state
    return panda()

  def step(self, action):
    self.commands.append(action)
    return panda(), 0.0, len(self.commands) >= 12, {}


class Suite:
  n_tasks = 2

  def get_task(self, number):
    return types.SimpleNamespace(
        language=f"task {number}", problem_folder="kitchen",
        bddl_file="task.bddl")

  def get_task_init_states(self, number):
    return np.arange(50)


class Kitchen(gymnasium.Env):
  """What RoboCasa's wrapper is."""

  def __init__(self, split="test"):
    assert split is None  # its default raises
    box = gymnasium.spaces.Box
    self.observation_space = gymnasium.spaces.Dict({
        **{f"video.robot0_{name}": box(0, 255, (SIDE, SIDE, 3), np.uint8)
           for name in ("agentview_left", "agentview_right", "eye_in_hand")},
        **{f"state.{name}": box(-9, 9, (width,), np.float64)
           for name, width in (
               ("gripper_qpos", 2), ("base_position", 3), ("base_rotation", 4),
               ("end_effector_position_relative", 3),
               ("end_effector_rotation_relative", 4))},
        "annotation.human.task_description": gymnasium.spaces.Text(99)})
    self.action_space = gymnasium.spaces.Dict({
        f"action.{name}": box(-1, 1, (width,), np.float32)
        for name, width in (
            ("gripper_close", 1), ("end_effector_position", 3),
            ("end_effector_rotation", 3), ("base_motion", 4),
            ("control_mode", 1))})

  def _seen(self):
    seen = {name: np.full(space.shape, number, space.dtype)
            for number, (name, space) in enumerate(
                self.observation_space.items())
            if hasattr(space, "shape") and space.shape is not None
            and not isinstance(space, gymnasium.spaces.Text)}
    return seen | {"annotation.human.task_description": "open the drawer"}

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self.actions = []
    return self._seen(), {}

  def step(self, action):
    assert {name: value.shape for name, value in action.items()} == {
        name: space.shape for name, space in self.action_space.items()}
    self.actions.append(action)
    return self._seen(), 0.0, False, False, {"success": True}


@pytest.fixture
def sim(monkeypatch):
  """sim(name, packages) -> the adapter, with stand-ins for its packages."""
  made = []

  def load(name, packages):
    for package, content in packages.items():
      module = types.ModuleType(package)
      vars(module).update(content, __path__=[])
      monkeypatch.setitem(sys.modules, package, module)
    made.append(f"dreamgen_jax.sims.{name}")
    sys.modules.pop(made[-1], None)
    return registry.find("sims", name)

  yield load
  for name in made:
    sys.modules.pop(name, None)


def walk(env, hold, steps):
  """Observations and last info of a policy that keeps still."""
  observation, _ = env.reset(seed=3)
  chunk = hold({"state": observation["state"][None, None]}, None)
  for action in chunk[0, :steps]:
    observation, _, terminated, _, info = env.step(action)
  assert terminated == info["success"]
  for name, space in env.observation_space.items():
    if name.startswith("image_"):
      assert observation[name].shape == space.shape
  return observation, info


def test_robosuite(sim):
  made = []

  def make(*args, **kw):
    made.append(Robosuite(*args, **kw))
    return made[-1]

  module = sim("robosuite", {
      "robosuite": {"make": make, "__version__": "1.5.2"}})
  env = module.make("Lift", horizon=9, image_size=SIDE)
  observation, info = walk(env, module.hold, 2)
  assert info["success"]
  assert observation["language"] == "lift the cube"
  # Upright, but not mirrored; the angle is that of -q, which is not q's.
  assert observation["image_agentview"][0, 1, 0] == SIDE - 1
  assert observation["image_agentview"][0, 0, 0] == 99
  np.testing.assert_allclose(
      observation["state"],
      [1, 2, 3, 0, 0, 1.5 * np.pi, 0.04, -0.04], atol=1e-6)
  np.testing.assert_array_equal(made[0].commands[0], [0, 0, 0, 0, 0, 0, -1])
  env.step(np.ones(7))
  assert made[0].commands[-1][6] == 1
  placed = made[0].placed
  env.reset(seed=3)
  assert made[0].placed == placed
  env.close()
  assert made[0].closed
  with pytest.raises(errors.ConfigError, match="Did you mean 'Lift'"):
    module.make("Lif")
  with pytest.raises(errors.ConfigError, match="robosuite 1.4.0"):
    sim("robosuite", {"robosuite": {"__version__": "1.4.0"}})


def test_libero(sim):
  inner = {"benchmark": types.SimpleNamespace(
      get_benchmark_dict=lambda: dict.fromkeys(
          ("libero_goal", "libero_goal_task"), Suite)),
           "envs": types.SimpleNamespace(OffScreenRenderEnv=Libero),
           "get_libero_path": lambda name: "bddl"}
  module = sim("libero", {"libero": {}, "libero.libero": inner})
  env = module.make("libero_goal/1", image_size=SIDE)
  observation, info = walk(env, module.hold, 2)
  assert info["success"]  # after ten steps of settling
  assert observation["language"] == "task 1"
  assert observation["image_wrist"][0, -1, 0] == 99  # turned by 180 degrees
  assert env._env.placed == 3
  variant = module.make("libero_goal_task/1", image_size=SIDE)
  assert walk(variant, module.hold, 1)[0]["language"] == "the file's words"
  assert variant._horizon == module.HORIZONS["libero_goal"]
  for task, message in (("libero_x/0", "no suite"), ("libero_goal/2", "has 2"),
                        ("libero_goal", "has 2")):
    with pytest.raises(errors.ConfigError, match=message):
      module.make(task)


def test_robocasa(sim):
  if "robocasa/OpenDrawer" not in gymnasium.registry:
    gymnasium.register("robocasa/OpenDrawer", entry_point=Kitchen,
                       disable_env_checker=True)
  module = sim("robocasa", {"robocasa": {"__version__": "1.0"}})
  env = module.make("OpenDrawer", horizon=5)
  observation, info = walk(env, module.hold, 1)
  assert info["success"]
  assert observation["language"] == "open the drawer"
  robot = registry.find("embodiments", "panda_omron").EMBODIMENT
  assert observation["state"].shape == (robot.state_dim,)
  assert {f"image_{name}" for name in robot.cameras} < observation.keys()
  with pytest.raises(errors.ConfigError, match="no task 'Nothing'"):
    module.make("Nothing")


@pytest.mark.parametrize("name", ["robosuite", "libero", "robocasa"])
def test_an_absent_package_is_named(name):
  if importlib.util.find_spec(name):
    pytest.skip(f"{name} is installed")
  with pytest.raises(errors.ConfigError, match="needs"):
    importlib.import_module(f"dreamgen_jax.sims.{name}")
