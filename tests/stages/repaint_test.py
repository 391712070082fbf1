"""Levels that cannot be repainted between are told before anything is read."""

import ml_collections
import pytest

from dreamgen_jax import errors
from dreamgen_jax.stages import repaint


@pytest.mark.parametrize("levels", [
    (), (0.5,), (0.0, 0.4, 0.8), (0.8, 0.2), (-0.1, 0.5), (0.5, 1.2)])
def test_levels_are_two_in_order(levels, tmp_path):
  config = ml_collections.ConfigDict(dict(camera="front", levels=levels))
  with pytest.raises(errors.ConfigError, match="name it twice"):
    repaint.run(config, {}, tmp_path / "out")
  assert not (tmp_path / "out").exists()
