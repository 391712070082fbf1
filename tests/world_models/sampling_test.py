"""What all world models have in common: sizes that fit, ways to sample."""

import dataclasses

import jax
import numpy as np
import pytest

from dreamgen_jax import errors, registry
from dreamgen_jax.diffusion import reuse

FAMILIES = ("wan", "cosmos", "cogvideox", "hunyuan")
PRESETS = [(family, name) for family in FAMILIES
           for name in registry.find("world_models", family).PRESETS]


def _nano(family, **changes):
  module = registry.find("world_models", family)
  return module.Model(dataclasses.replace(module.PRESETS["nano"], **changes))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("changes, message", [
    (dict(frames=18), r"18 frames .*frames must be 1 plus a multiple of \d"),
    (dict(height=62), r"62x64 pixels .*height and width +multiples of \d"),
])
def test_sizes_that_the_autoencoder_cannot_take(family, changes, message):
  with pytest.raises(errors.ConfigError, match=message):
    _nano(family, **changes)


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_that_do_not_divide_into_patches(family):
  c = _nano(family).config
  factor, tall = c.vae.space_factor, c.transformer.patch[1]
  with pytest.raises(errors.ConfigError, match=(
      f"64x{64 + factor} pixels does not divide into patches: height must be a "
      f"multiple of {factor * tall}")):
    _nano(family, width=64 + factor)


def test_stored_positions_are_for_one_size():
  c = registry.find("world_models", "cogvideox").PRESETS["cogvideox_5b_i2v"]
  with pytest.raises(errors.ConfigError, match="45 frames of 480x720 .*17776"):
    dataclasses.replace(c, frames=45)


@pytest.mark.parametrize("family, preset", PRESETS)
def test_every_preset_says_how_it_samples(family, preset):
  c = registry.find("world_models", family).PRESETS[preset]
  fields = {field.name for field in dataclasses.fields(c)}
  assert set(c.sampling) <= fields and "reuse" in c.sampling
  assert c.reuse == reuse.Config()
  nano, silent = "nano" in preset, family == "cogvideox"
  assert bool(c.negative) == (not nano and not silent)
  assert c.sees_last_frame == ("flf2v" in preset)
  if family in ("wan", "cosmos"):  # others' autoencoders cut clips by nature
    assert c.vae.chunk == (None if nano else 1)


@pytest.mark.parametrize("family, changes", [
    *((family, {}) for family in FAMILIES), ("wan", {"boundary": 0.9})])
def test_blocks_are_remembered_where_the_plan_says_so(
    family, changes, monkeypatch):
  """Traced only: `reuse_test` runs what then happens."""
  kept, keep = [], reuse.Memory.keep

  def noted(self, added):
    kept.append(added.shape)
    keep(self, added)

  monkeypatch.setattr(reuse.Memory, "keep", noted)

  model = _nano(
      family, reuse=reuse.Config((1.0, 1.0, 1.0), head=0.0), **changes)
  c, leaves = model.config, dict(model.example(2))
  text = {name: leaves.pop(name) for name in model.example(2)
          if name.startswith("text")}
  frames, *rest = leaves.pop("latent").shape[1:]
  frames += getattr(c, "front", 0)
  noise = jax.ShapeDtypeStruct((2, frames, *rest), np.float32)
  more = {"draw": None} if family == "cogvideox" else {}
  latent = jax.eval_shape(
      lambda *inputs: model.denoise(*inputs, steps=3, guidance=2.0, **more),
      jax.eval_shape(model.init, jax.random.key(0)), noise, leaves, text, text)
  assert latent.shape == (2, *c.latent_shape)
  branches = 1 if family == "hunyuan" else 2  # it is told its guidance
  assert {shape[0] for shape in kept} == {2 * branches}
  assert {shape[2] for shape in kept} == {c.transformer.width}


def test_dynamic_guidance_is_the_released_formula():
  model = _nano("cogvideox", dynamic_guidance=True)
  scale = model.scale(50, 6.0)
  for step in (999, 979, 39, 19):
    share = (50 - step) / 50
    np.testing.assert_allclose(
        scale(np.float32(step)),
        1 + 6 * (1 - np.cos(np.pi * share**5.0)) / 2, rtol=1e-6)
  assert _nano("cogvideox").scale(50, 6.0) == 6.0
  assert model.scale(50, 1.0) == 1.0  # no second branch
