"""The inverse dynamics model over whole clips as a labeler."""

import dataclasses
import re

import jax
import numpy as np
import pytest

from dreamgen_jax import paths, types
from dreamgen_jax.data import labels
from dreamgen_jax.labelers import vpt
from dreamgen_jax.stages import labelers
from tests import drawn

KEY = jax.random.key(0, impl="rbg")  # which compiles fast
TINY = dataclasses.replace(
    vpt.PRESETS["nano"], vision_width=8, vision_heads=1, vision_depth=1,
    vision_mlp=8, width=16, heads=2, depth=1, embodiments=2, camera_size=16,
    resizes=(16,), frames=3, horizon=4, action_dim=2)


def test_the_future_is_seen_and_every_parameter_learns():
  model = vpt.Model(TINY)
  params, batch = drawn.params(model), drawn.batch(model, 2, tokens=2)
  batch["mask"][0, 1:] = False

  @jax.jit
  def learn(params, batch):
    def loss(params, action):
      return model.loss(params, KEY, batch | {"action": action})

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(
        params, batch["action"])

  (loss, metrics), (grads, by_action) = learn(params, batch)
  assert np.isfinite(loss) and metrics.keys() == {"error", "deviation"}
  assert not by_action[0, 1:].any() and by_action[1].all()
  grads = paths.flatten(grads)
  # Keys share their bias's effect with the softmax, which cancels it.
  still = {path for path, leaf in grads.items() if not np.any(leaf)}
  assert all(path.endswith("k/bias") for path in still), still

  @jax.jit
  def label(seen):
    keys = jax.random.split(KEY, 2)
    return model.label(params, keys, seen, batch["embodiment"], 3)

  seen = np.random.default_rng(0).normal(size=(2, 3, 16)).astype(np.float32)
  found = label(seen)
  assert found.shape == (3, 2, 4, 2)
  assert np.abs(found[0] - found[1]).max() > 1e-3
  later = seen.copy()
  later[:, -1] *= -1
  assert np.abs(label(later) - found)[:, :, 0].max() > 1e-4


def test_it_is_built_for_clips():
  robot = types.Embodiment(
      "stick", 0, (), (types.Key("x", 3),), {}, types.Clock(5.0, 10.0))
  spec = {"name": "vpt", "preset": "nano", "kw": {}}
  base = labels.TimeBase(10.0, 5.0, 0.8, 9)
  c = labelers.build(spec, robot, base, ["a", "b"]).config
  assert (c.frames, c.horizon, c.action_dim, c.views) == (5, 9, 3, 2)
  with pytest.raises(Exception, match="decodes no states"):
    labelers.build(spec, robot, base, ["a"], state=True)


def test_large_parameters_are_sharded():
  shapes = jax.eval_shape(
      vpt.Model(vpt.PRESETS["base"]).init, jax.random.key(0))
  for path, leaf in paths.flatten(shapes).items():
    axes = next(axes for rule, axes in vpt.RULES if re.search(rule, path))
    assert axes or leaf.size < 2 ** 20, path
