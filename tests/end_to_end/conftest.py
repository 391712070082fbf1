"""What roads that are walked end to end share: a world model that has learnt
nothing, a few demonstrations, parts of configs.
"""

import functools
import pathlib

import jax
import numpy as np
import pytest

from dreamgen_jax import options, registry
from dreamgen_jax.data import rlds
from dreamgen_jax.encoders import tokenizer
from dreamgen_jax.labelers import idm, lapa
from dreamgen_jax.policies import diffusion_policy, groot_n1
from dreamgen_jax.stages import models
from dreamgen_jax.world_models import wan

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


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


# What replaces sizes of Wan's nano preset, whose clips and strides are kept.
SMALL = dict(
    vae=dict(base_dim=4),
    text=dict(width=16, heads=2, head_dim=8, ffn=16, layers=1),
    transformer=dict(width=24, heads=2, layers=2, ffn=32, text_dim=16,
                     freq_dim=16))


@pytest.fixture(scope="module")
def make_weights(tmp_path_factory, draw):
  """make_weights(captions) -> checkpoint folder that knows their words.

  The preset is small as long as the module's tests run.
  """
  model = models.build("world_models", dict(
      name="wan", preset="nano", kw=SMALL))
  params = draw(model.init, jax.random.key(0))

  def make(captions):
    folder = tmp_path_factory.mktemp("weights")
    wan.save(folder, model, params, tokenizer.train(
        captions, model.config.text.vocabulary))
    return folder

  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(wan.PRESETS, "nano", model.config)
    yield make


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
  """A folder with three demonstrations of 17 frames, 16x16, in `data`."""
  from dreamgen_jax.sims.tabletop import collect  # needs MuJoCo

  folder = tmp_path_factory.mktemp("recorded")
  episodes = [collect.collect("panda", "push", "wood", seed, length=17,
                              image_size=16) for seed in range(3)]
  rlds.write(folder / "data", "recorded", episodes, registry.find(
      "embodiments", "tabletop_panda").EMBODIMENT)
  return folder


@pytest.fixture(scope="module")
def cheap(draw):
  """Less to compile: another random generator, few optimisations, and what
  labelers and policies begin with is drawn.
  """
  changed = {"jax_disable_most_optimizations": (True, False),
             "jax_default_prng_impl": ("rbg", "threefry2x32")}
  for name, (now, _) in changed.items():
    jax.config.update(name, now)
  with pytest.MonkeyPatch.context() as patch:
    for kind in (idm.Model, lapa.Model, diffusion_policy.Model,
                 groot_n1.Model):
      patch.setattr(kind, "init", functools.partialmethod(
          lambda model, rng, init: draw(functools.partial(init, model), rng),
          init=kind.init))
    yield
  for name, (_, before) in changed.items():
    jax.config.update(name, before)


@pytest.fixture(scope="session")
def road():
  """road(file, wanted, changes) -> those sections of a config alone.

  They read from each other or from disk; other inputs are left out.
  """

  def make(file, wanted, changes):
    config = options.load(str(CONFIGS / file), [
        (key, str(value)) for key, value in changes.items()])
    with config.unlocked():
      for name in list(config):
        if name not in wanted:
          del config[name]
      for section in config.values():
        for name, source in list(section.inputs.items()):
          if source not in wanted and not pathlib.Path(source).exists():
            del section.inputs[name]
    return config

  return make
