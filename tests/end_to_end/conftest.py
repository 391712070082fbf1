"""A world model that has learnt nothing, for roads walked end to end."""

import jax
import numpy as np
import pytest

from dreamgen_jax.encoders import tokenizer
from dreamgen_jax.world_models import wan


@pytest.fixture(scope="session")
def draw():
  """draw(init, *args) -> parameters like init's, without a compiler.

  None is 0: adapters, and whatever else lies behind it, would never move.
  """

  def run(init, *args):
    random = np.random.default_rng(0)

    def fill(path, leaf):
      one = path[-1].key in ("scale", "gamma")
      spread = np.prod(leaf.shape[-4:-1]) ** -0.5 if leaf.ndim > 1 else 0.05
      values = one + spread * random.normal(size=leaf.shape)
      return values.astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, jax.eval_shape(init, *args))

  return run


@pytest.fixture(scope="session")
def make_weights(tmp_path_factory, draw):
  """make_weights(captions) -> checkpoint folder that knows their words."""
  model = wan.Model(wan.PRESETS["nano"])
  params = draw(model.init, jax.random.key(0))

  def make(captions):
    folder = tmp_path_factory.mktemp("weights")
    wan.save(folder, model, params, tokenizer.train(
        captions, model.config.text.vocabulary))
    return folder

  return make
