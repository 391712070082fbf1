"""The CogVideoX autoencoder against diffusers' own, chunk by chunk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from dreamgen_jax import errors, weights
from dreamgen_jax.world_models.cogvideox import vae, vae_weights
from tests import golden_cases

DIFFUSERS = vae_weights.NAMES["diffusers"]


def config_of(kwargs):
  return vae.Config(
      widths=tuple(kwargs["block_out_channels"]),
      latent_channels=kwargs["latent_channels"],
      blocks=kwargs["layers_per_block"], groups=kwargs["norm_num_groups"],
      time_factor=kwargs["temporal_compression_ratio"],
      scale=kwargs["scaling_factor"],
      divides_image=kwargs.get("invert_scale_latents", False))


def _last(x):
  return rearrange(x, "b c f h w -> b f h w c")


@pytest.fixture(params=golden_cases.cases("AutoencoderKLCogVideoX"))
def case(golden, request):
  kwargs, files = golden(request.param)
  config = config_of(kwargs["kwargs"])
  target = jax.eval_shape(lambda key: vae.init(config, key), jax.random.key(0))
  params = weights.load(files["weights"], DIFFUSERS, target)
  return config, params, files


def test_encode(case):
  config, params, files = case
  video, outputs = _last(files["inputs"]["x"]), files["outputs"]
  encode = jax.jit(vae.encode, static_argnums=0)
  for frames, name in ((None, "moments"), (1, "img_moments")):
    moments = encode(config, params, video[:, :frames])
    np.testing.assert_allclose(moments, _last(outputs[name]), atol=2e-5)
  # The first chunk knows nothing of the second.
  np.testing.assert_array_equal(outputs["moments_T9"],
                                outputs["moments"][:, :, :3])
  assert vae.mode(moments).shape[-1] == config.latent_channels


def test_decode(case):
  config, params, files = case
  z, outputs = _last(files["inputs"]["z"]), files["outputs"]
  decode = jax.jit(vae.decode, static_argnums=0)
  for frames, name in (
      (None, "decode"), (4, "decode_T4"), (1, "decode_T1")):
    video = decode(config, params, z[:, :frames])
    np.testing.assert_allclose(video, _last(outputs[name]), atol=2e-5)


def test_chunks_are_part_of_the_function(case, monkeypatch):
  config, params, files = case
  video, outputs = _last(files["inputs"]["x"]), files["outputs"]
  monkeypatch.setattr(vae, "ENCODE_FRAMES", video.shape[1])
  whole = jax.jit(lambda video: vae.encode(config, params, video))(video)
  assert np.abs(whole - _last(outputs["moments"])).max() > 0.01


def test_export_gives_the_released_file(case):
  _, params, files = case
  exported = weights.export(params, DIFFUSERS)
  assert exported.keys() == files["weights"].keys()
  for name, tensor in files["weights"].items():
    np.testing.assert_array_equal(exported[name], tensor)


def test_half_the_time_factor_keeps_the_frames():
  config = vae.Config(widths=(4, 4, 4), latent_channels=2, blocks=1, groups=2,
                      time_factor=2)
  video = jax.ShapeDtypeStruct((1, 17, 8, 8, 3), jnp.float32)
  params = jax.eval_shape(lambda key: vae.init(config, key), jax.random.key(0))
  moments = jax.eval_shape(
      lambda *x: vae.encode(config, *x), params, video)
  assert moments.shape == (1, 9, 2, 2, 4)
  z = jax.ShapeDtypeStruct((1, 9, 2, 2, 2), jnp.float32)
  again = jax.eval_shape(lambda *x: vae.decode(config, *x), params, z)
  assert again.shape == video.shape


def test_misfits_are_errors():
  with pytest.raises(errors.ConfigError, match="1 plus a multiple of 4"):
    vae.latent_shape(vae.PRESETS["cogvideox"], 16, 64, 64)
  with pytest.raises(errors.ConfigError, match="time_factor 3"):
    vae.Config(time_factor=3)
  with pytest.raises(errors.ConfigError, match="5 groups"):
    vae.Config(groups=5)
