"""A world model that has learnt nothing, for roads walked end to end."""

import jax
import numpy as np
import pytest

from dreamgen_jax.encoders import tokenizer
from dreamgen_jax.world_models import wan


@pytest.fixture(scope="session")
def make_weights(tmp_path_factory):
  """make_weights(captions) -> checkpoint folder that knows their words."""
  model = wan.Model(wan.PRESETS["nano"])
  rng = np.random.default_rng(0)

  def draw(path, leaf):  # no zeros: adapters behind them would never move
    one = path[-1].key in ("scale", "gamma")
    return (one + 0.05 * rng.normal(size=leaf.shape)).astype(np.float32)

  params = jax.tree_util.tree_map_with_path(
      draw, jax.eval_shape(model.init, jax.random.key(0)))

  def make(captions):
    folder = tmp_path_factory.mktemp("weights")
    wan.save(folder, model, params, tokenizer.train(
        captions, model.config.text.vocabulary))
    return folder

  return make
