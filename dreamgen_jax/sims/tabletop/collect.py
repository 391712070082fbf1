"""Demonstrations, start frames and replays of the tabletop, as records."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np

from dreamgen_jax import registry, types
from dreamgen_jax.sims.tabletop import environment, experts
from dreamgen_jax.sims.tabletop import world as worlds

DATASET = "tabletop"
TURN = 10.0  # rad per metre of wobble


@contextlib.contextmanager
def _reset(robot, verb, scene, seed, image_size, randomize_looks=False,
           paraphrase=None, spread=1.0, cameras=("front",)) -> Iterator[tuple]:
  """(environment, first observation) of a seed; closes it afterwards."""
  env = environment.TabletopEnv(
      robot, verb, scene, image_size=image_size, horizon=10**9,
      randomize_looks=randomize_looks, spread=spread, cameras=tuple(cameras),
      terminate_on_success=False)
  try:
    observation, _ = env.reset(
        seed=seed, options={"paraphrase": paraphrase or 0})
    yield env, observation
  finally:
    env.close()


def _record(env, robot, verb, scene, seed, spread) -> dict:
  """The fields that an episode and a prompt share."""
  robot_data = registry.find("embodiments", f"tabletop_{robot}").EMBODIMENT
  layout = env.world.layout
  return dict(
      id=f"{DATASET}-{robot}-{verb}-{scene}-{seed}",
      embodiment=robot_data.name,
      clock=robot_data.clock,
      origin=types.Origin(kind="sim", dataset=DATASET, seed=seed),
      facts={
          "verb": verb,
          "scene": scene,
          "robot": robot,
          "spread": spread,
          "blocks": [block.colour for block in layout.blocks],
          "bins": [thing.colour for thing in layout.bins],
          "fixture": layout.fixture,
      },
  )


def collect(
    robot: str,
    verb: str,
    scene: str,
    seed: int,
    *,
    length: int = 17,
    randomize_looks: bool = False,
    paraphrase: int | None = None,
    image_size: int = 64,
    spread: float = 1.0,
    cameras: Sequence[str] = ("front",),
    wobble: float = 0.0,
) -> types.Episode:
  """One demonstration by the scripted expert.

  Args:
    robot: a key of `robots.ROBOTS`.
    verb: a key of `tasks.TASKS`.
    scene: a key of `scenes.SCENES`.
    seed: of the reset and of the expert's own choices.
    length: frames, states and actions of the episode; action[j] is commanded
      after frame j is seen, the last one is never run.
    randomize_looks: see `environment.TabletopEnv`.
    paraphrase: which instruction; None is the canonical one.
    image_size: pixels of each side of the images.
    spread: see `environment.TabletopEnv`.
    cameras: see `environment.TabletopEnv`.
    wobble: metres, standard deviation of how far from the commanded place the
      hand is taken; none at the table, all from 10 cm on. What is recorded is
      the right action from there (DART, arXiv 1703.09327), so that a policy
      learns to come back.

  Returns:
    Episode with video[camera] u8[length, h, w, 3], state and action
    f32[length, 5], and success at the end; the experts are done by about step
    14 and hold still after that.

  Raises:
    ConfigError: unknown robot, verb or scene.
  """
  with _reset(robot, verb, scene, seed, image_size, randomize_looks,
              paraphrase, spread, cameras) as (env, observation):
    targets = experts.actions(
        env.world, verb, worlds.stream(seed, worlds.EXPERT, verb))
    noise = worlds.stream(seed, worlds.EXPERT, "wobble")
    track, success = _run(env, observation, targets, length,
                          lambda action: _taken(action, wobble, noise))
    return types.Episode(
        **track, instruction=observation["language"], success=success,
        **_record(env, robot, verb, scene, seed, spread))


def wander(
    robot: str,
    verb: str,
    scene: str,
    seed: int,
    *,
    length: int = 17,
    randomize_looks: bool = False,
    image_size: int = 64,
    spread: float = 1.0,
    cameras: Sequence[str] = ("front",),
) -> types.Episode:
  """The robot moves about by itself and touches nothing.

  Arguments, shapes and errors as for `collect`; the verb only says how the
  table is laid. Nothing was asked for, so there is no success.
  """
  with _reset(robot, verb, scene, seed, image_size, randomize_looks,
              spread=spread, cameras=cameras) as (env, observation):
    targets = experts.wander(
        env.world, worlds.stream(seed, worlds.EXPERT, "wander"))
    track, _ = _run(env, observation, targets, length)
    return types.Episode(**track, instruction="move",
                         **_record(env, robot, verb, scene, seed, spread))


def _run(env, observation, targets, length,
         taken=lambda action: action) -> tuple[dict, bool]:
  """(video, state and action of `length` steps, success at the end)."""
  seen, actions, success = [observation], [], False
  for _ in range(length - 1):
    actions.append(env.world.arm.limit(next(targets)))
    observation, _, _, _, info = env.step(taken(actions[-1]))
    seen.append(observation)
    success = bool(info["success"])
  actions.append(env.world.arm.limit(next(targets)))  # is never run
  return dict(
      video={camera: np.stack([each[f"image_{camera}"] for each in seen])
             for camera in env.cameras},
      state=np.stack([each["state"] for each in seen]),
      action=np.stack(actions).astype(np.float32)), success


def _taken(action, wobble, rng) -> np.ndarray:
  """Where the hand is taken to when it is told to go elsewhere."""
  share = np.clip((action[2] - 0.05) / 0.05, 0, 1)
  noise = wobble * share * rng.standard_normal(4) * (1, 1, 1, TURN)
  return action + np.append(noise, 0.0)


def start_prompt(
    robot: str,
    verb: str,
    scene: str,
    seed: int,
    *,
    randomize_looks: bool = False,
    paraphrase: int | None = None,
    image_size: int = 64,
    spread: float = 1.0,
    cameras: Sequence[str] = ("front",),
) -> types.Prompt:
  """The reset's frame and instruction, for a world model to dream from.

  Arguments and errors as for `collect`, whose first frame this is.
  """
  with _reset(robot, verb, scene, seed, image_size, randomize_looks,
              paraphrase, spread, cameras) as (env, observation):
    return types.Prompt(
        frames={camera: observation[f"image_{camera}"] for camera in cameras},
        instruction=observation["language"],
        **_record(env, robot, verb, scene, seed, spread),
    )


def replay(
    robot: str,
    verb: str,
    scene: str,
    seed: int,
    actions: np.ndarray,
    *,
    randomize_looks: bool = False,
    image_size: int = 64,
    spread: float = 1.0,
) -> tuple[bool, np.ndarray]:
  """Executes actions from the reset of `seed`.

  Args:
    robot: as for `collect`, like verb, scene, seed and the rest.
    verb: see above.
    scene: see above.
    seed: see above.
    actions: float[n, 5].
    randomize_looks: see above.
    image_size: see above.
    spread: see above.

  Returns:
    (success at the end, frames u8[n + 1, h, w, 3]).
  """
  with _reset(robot, verb, scene, seed, image_size,
              randomize_looks, spread=spread) as (env, observation):
    frames, success = [observation["image_front"]], False
    for action in actions:
      observation, _, _, _, info = env.step(action)
      frames.append(observation["image_front"])
      success = info["success"]
    return bool(success), np.stack(frames)
