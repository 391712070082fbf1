"""Small synthetic episodes."""

import numpy as np
import pytest

from dreamgen_jax import types
from dreamgen_jax.data import rlds

EMBODIMENT = types.Embodiment(
    name="stick",
    id=7,
    state=(
        types.Key("position", 2, unit="m"),
        types.Key("yaw", 1, unit="rad", kind="angle"),
    ),
    action=(
        types.Key("target", 2, unit="m"),
        types.Key("turn", 1, unit="rad", absolute=False,
                  normalize="mean_std"),
        types.Key("gripper", 1, kind="binary"),
    ),
    cameras={"front": "front", "wrist": "wrist"},
    clock=types.Clock(video_hz=5.0, control_hz=10.0),
)


def make_episode(seed=0, num_frames=9, kind="sim", labelled=True, size=16,
                 cameras=("front", "wrist"), clock=EMBODIMENT.clock):
  """A random episode whose frames are flat colours that name their index."""
  rng = np.random.default_rng(seed)
  n = rlds.num_steps(num_frames, clock)
  video = {}
  for k, camera in enumerate(cameras):
    frames = np.zeros((num_frames, size, size, 3), np.uint8)
    frames[..., 0] = 20 * np.arange(num_frames)[:, None, None] % 250
    frames[..., 1] = 40 * seed % 250
    frames[..., 2] = 100 * k
    video[camera] = frames
  action = rng.normal(size=(n, 4)).astype(np.float32)
  action[:, 3] = action[:, 3] > 0
  return types.Episode(
      id=f"episode_{seed}",
      video=video,
      instruction=f"touch object {seed}",
      embodiment="stick",
      clock=clock,
      origin=types.Origin(kind, dataset="sticks", seed=seed,
                          scores={"judge": 0.5}, reason="because"),
      state=rng.normal(size=(n, 3)).astype(np.float32) if labelled else None,
      action=action if labelled else None,
      success=True if labelled else None,
      facts={"verb": "touch", "scene": seed},
  )


@pytest.fixture(scope="session")
def embodiment():
  return EMBODIMENT


@pytest.fixture(scope="session")
def episodes():
  """Five labelled episodes of different lengths."""
  return [make_episode(seed, 9 + seed) for seed in range(5)]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory, episodes):
  """The same five on disk, in two shards."""
  path = tmp_path_factory.mktemp("sticks") / "sticks"
  return rlds.write(path, "sticks", episodes, EMBODIMENT, num_shards=2,
                    digest="v1")


@pytest.fixture(scope="session")
def dreams(tmp_path_factory):
  """Three dreams without state and action."""
  path = tmp_path_factory.mktemp("dreams") / "dreams"
  made = [make_episode(seed, 9, kind="dream", labelled=False)
          for seed in range(3)]
  return rlds.write(path, "dreams", made, EMBODIMENT)


@pytest.fixture(scope="session", name="make_episode")
def _make_episode():
  """The function that makes a synthetic episode."""
  return make_episode
