"""Target poses to joint commands: least squares with damping, then servos."""

import mujoco
import numpy as np

from dreamgen_jax.sims.tabletop import robots

PERIOD = 0.2  # s, one control step
MAX_MOVE = 0.12  # m per control step
MAX_TURN = 0.9  # rad per control step
CHUNKS = 10  # servo commands per control step
SUBSTEPS = 4  # physics steps per servo command
KNOTS = 5  # inverse-kinematics solutions per control step


class Arm:
  """Moves the gripper of one model; the target is [x, y, z, yaw, close]."""

  def __init__(self, model: mujoco.MjModel, data: mujoco.MjData,
               robot: robots.Robot):
    self._model, self._data, self._robot = model, data, robot
    self._scratch = mujoco.MjData(model)
    joints = [model.joint(name) for name in robot.joints]
    self._places = np.array([joint.qposadr[0] for joint in joints])
    self._dofs = np.array([joint.dofadr[0] for joint in joints])
    self._limits = np.array([joint.range for joint in joints])
    count = len(joints)
    self._count = count
    gains = model.actuator_gainprm[:count, 0]
    # A critically damped servo trails by kv / kp seconds; commands lead by it.
    self._lead = -model.actuator_biasprm[:count, 2] / gains
    self._site = model.site("tip").id
    self._fingers = [
        model.joint(name).qposadr[0]
        for name in ("finger_left", "finger_right")
    ]
    self._home = np.array(robot.home)
    self._null_gain = 0.05 if count > 6 else 0.0
    self.target = np.zeros(5)

  def place(self, pose: np.ndarray, noise: np.ndarray) -> None:
    """Puts the open gripper at pose float[4] plus joint noise float[joints]."""
    joints = self._solve(pose[:4], self._home, iterations=60)
    joints = np.clip(joints + noise[:self._count], *self._limits.T)
    data = self._data
    data.qpos[self._places] = joints
    data.qpos[self._fingers] = robots.OPENING
    data.ctrl[:self._count] = joints
    data.ctrl[self._count] = robots.OPENING
    self._joints = joints
    mujoco.mj_forward(self._model, data)
    self.target = np.append(self.pose(), 0.0)

  def pose(self) -> np.ndarray:
    """Measured float[4]: x, y, z in metres and yaw in radians."""
    rotation = self._data.site_xmat[self._site]
    yaw = np.arctan2(rotation[3], rotation[0])
    return np.append(self._data.site_xpos[self._site], yaw)

  def opening(self) -> float:
    """Measured opening, 0 (closed) to 1."""
    left = self._data.qpos[self._fingers[0]]
    return float(np.clip(left / robots.OPENING, 0, 1))

  def limit(self, action: np.ndarray) -> np.ndarray:
    """The target that an action float[5] may reach within one step."""
    space = self._robot.workspace
    move = np.clip(action[:3], space.low, space.high) - self.target[:3]
    length = np.linalg.norm(move)
    if length > MAX_MOVE:
      move *= MAX_MOVE / length
    yaw = np.clip(action[3], -space.yaw, space.yaw)
    turn = np.clip(yaw - self.target[3], -MAX_TURN, MAX_TURN)
    return np.concatenate([
        self.target[:3] + move, [self.target[3] + turn],
        [float(action[4] > 0.5)],
    ])

  def step(self, action: np.ndarray) -> None:
    """Tracks the limited target for one control step of 0.2 s."""
    goal = self.limit(action)
    start, self.target = self.target, goal
    knots = [self._joints]
    for i in range(1, KNOTS + 1):
      part = i / KNOTS
      ease = part * part * (3 - 2 * part)  # starts and ends at rest
      pose = start[:4] + ease * (goal[:4] - start[:4])
      knots.append(self._solve(pose, knots[-1], iterations=4))
    self._joints = knots[-1]
    table = np.array(knots)
    rate = np.gradient(table, PERIOD / KNOTS, axis=0)
    rate[0] = rate[-1] = 0
    command = table + rate * self._lead
    data = self._data
    data.ctrl[self._count] = 0.0 if goal[4] else robots.OPENING
    for i in range(1, CHUNKS + 1):
      place = i * KNOTS / CHUNKS
      low = min(int(place), KNOTS - 1)
      part = place - low
      data.ctrl[:self._count] = (
          (1 - part) * command[low] + part * command[low + 1])
      mujoco.mj_step(self._model, data, SUBSTEPS)

  def _solve(self, pose: np.ndarray, joints: np.ndarray,
             iterations: int) -> np.ndarray:
    """Joint values that bring the tip to pose float[4], gripper down."""
    model, scratch = self._model, self._scratch
    scratch.qpos[:] = self._data.qpos
    jacobian = np.zeros((6, model.nv))
    turn, error = np.zeros(3), np.zeros(6)
    here, back, apart = np.zeros(4), np.zeros(4), np.zeros(4)
    # Pointing down at yaw 0 is half a turn about x.
    goal = np.array([0.0, np.cos(pose[3] / 2), np.sin(pose[3] / 2), 0.0])
    joints = joints.copy()
    ridge = self._robot.damping * np.eye(6)
    for _ in range(iterations):
      scratch.qpos[self._places] = joints
      mujoco.mj_kinematics(model, scratch)
      mujoco.mj_comPos(model, scratch)
      error[:3] = pose[:3] - scratch.site_xpos[self._site]
      mujoco.mju_mat2Quat(here, scratch.site_xmat[self._site])
      mujoco.mju_negQuat(back, here)
      mujoco.mju_mulQuat(apart, goal, back)
      mujoco.mju_quat2Vel(turn, apart, 1.0)
      error[3:] = turn
      if np.abs(error).max() < 4e-4:
        break
      mujoco.mj_jacSite(model, scratch, jacobian[:3], jacobian[3:], self._site)
      j = jacobian[:, self._dofs]
      pull = self._null_gain * (self._home - joints)
      step = j.T @ np.linalg.solve(j @ j.T + ridge, error - j @ pull) + pull
      joints = np.clip(
          joints + np.clip(step, -0.4, 0.4), self._limits[:, 0],
          self._limits[:, 1])
    return joints
