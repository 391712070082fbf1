"""HunyuanVideo's autoencoder against diffusers' own."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from einops import rearrange

from dreamgen_jax import errors, weights
from dreamgen_jax.world_models.hunyuan import vae, vae_weights
from tests import golden_cases

DIFFUSERS = vae_weights.NAMES["diffusers"]


def config_of(kwargs):
  return vae.Config(
      z_dim=kwargs["latent_channels"],
      widths=tuple(kwargs["block_out_channels"]),
      num_res_blocks=kwargs["layers_per_block"],
      groups=kwargs["norm_num_groups"], scale=kwargs["scaling_factor"])


def _last(x):
  return rearrange(x, "b c f h w -> b f h w c")


def _shapes(config):
  return jax.eval_shape(lambda key: vae.init(config, key), jax.random.key(0))


@functools.cache
def _compiled(function, config):
  return jax.jit(functools.partial(function, config))


@pytest.fixture(params=golden_cases.cases("AutoencoderKLHunyuanVideo"))
def case(golden, request):
  kwargs, files = golden(request.param)
  config = config_of(kwargs["kwargs"])
  params = weights.load(files["weights"], DIFFUSERS, _shapes(config))
  return config, params, files


@pytest.mark.parametrize(("frames", "tile", "name"), [
    (1, 16, "img_moments"), (21, 16, "moments_T21_tiled"),
    (21, 24, "moments_T21_whole")])
def test_encode(case, frames, tile, name):
  config, params, files = case
  config = dataclasses.replace(config, tile=tile)
  video = _last(files["inputs"]["x"])[:, :frames]
  moments = _compiled(vae.encode, config)(params, video)
  np.testing.assert_allclose(
      moments, _last(files["outputs"][name]), atol=2e-5)


@pytest.mark.parametrize(("frames", "tile", "name"), [
    (6, 16, "decode_T21_tiled"), (6, 24, "decode_T21_whole")])
def test_decode(case, frames, tile, name):
  config, params, files = case
  config = dataclasses.replace(config, tile=tile)
  z = _last(files["inputs"]["z"])[:, :frames]
  video = _compiled(vae.decode, config)(params, z)
  expected = np.clip(_last(files["outputs"][name]), -1, 1)
  np.testing.assert_allclose(video, expected, atol=2e-5)


def test_export_gives_the_released_file(case):
  _, params, files = case
  exported = weights.export(params, DIFFUSERS)
  assert exported.keys() == files["weights"].keys()
  for name, tensor in files["weights"].items():
    np.testing.assert_array_equal(exported[name], tensor)


def test_tiles_by_hand():
  """Frames that name their tile show which tile each one came from."""
  seen = []

  def run(x):
    seen.append(x.shape[1])
    return x + 0 * x[:, :1]

  x = np.arange(45, dtype=np.float32).reshape(1, 45, 1, 1, 1)
  out = vae._in_tiles(run, x, 16, 12, 4, 12)
  np.testing.assert_allclose(out, x)
  assert seen == [17, 9]  # the full ones are traced once
  out = vae._in_tiles(lambda x: x - x[:, :1], x, 16, 12, 4, 12).ravel()
  # Frames 13 to 16 go over from tile 0 (which counts from 0) to tile 1.
  np.testing.assert_allclose(out[12:18], [12, 13, 11, 9, 7, 5])
  whole = vae._in_tiles(run, x[:, :37], 16, 12, 4, 12)
  assert whole.shape[1] == 37  # frame 36 begins no tile of its own


def test_released_size():
  count = sum(
      leaf.size for leaf in jax.tree.leaves(_shapes(vae.PRESETS["released"])))
  assert round(count / 1e6, 1) == 246.5


def test_a_clip_that_does_not_divide():
  with pytest.raises(errors.ConfigError, match="1 plus a multiple of 4"):
    vae.latent_shape(vae.PRESETS["released"], 16, 64, 64)
  with pytest.raises(errors.ConfigError, match="multiples of its groups, 3"):
    vae.Config(groups=3)
