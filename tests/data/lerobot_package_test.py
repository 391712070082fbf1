"""Neural trajectories in the real lerobot package, where it is installed."""

import numpy as np
import pytest

from dreamgen_jax import types
from dreamgen_jax.data import lerobot_export

lerobot_dataset = pytest.importorskip("lerobot.datasets.lerobot_dataset")


def test_lerobot_loads_neural_trajectories(tmp_path, embodiment,
                                           make_episode):
  clock = types.Clock(10.0, 10.0)
  dreams = [make_episode(seed, 6 + seed, kind="dream", clock=clock, size=160)
            for seed in range(3)]
  lerobot_export.write(tmp_path / "d", dreams, embodiment, "v3.0")
  data = lerobot_dataset.LeRobotDataset("dreamgen/dreams", root=tmp_path / "d")
  assert (data.num_episodes, data.num_frames, data.fps) == (3, 21, 10)
  row = data[8]  # the third step of the second
  assert row["task"] == "touch object 1"
  np.testing.assert_allclose(row["action"], dreams[1].action[2], atol=1e-6)
  np.testing.assert_allclose(row["observation.state"], dreams[1].state[2],
                             atol=1e-6)
  picture = row["observation.images.front"].numpy() * 255  # c h w
  assert np.abs(picture[0] - dreams[1].video["front"][2, ..., 0]).mean() < 6
