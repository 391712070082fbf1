"""The video autoencoders of Wan: 2.1 (also of Cosmos-Predict2) and 2.2.

Source: Wan2.1 `wan/modules/vae.py` and Wan2.2 `wan/modules/vae2_2.py`; which
of the two, the config says (2.2-A14B has 2.1's, 2.2-TI2V-5B its own). Reads
video [b, f, h, w, 3] in [-1, 1] with f = 4 n + 1; returns latents
[b, t, h', w', z] with t = n + 1. Strictly causal: latent frame 0 depends on
video frame 0 alone. A clip is run whole or, with bounded memory and the same
result, in chunks of `config.chunk` latent frames. Under a mesh, activations
are split along width over the axis "context".
"""

import jax
import jax.numpy as jnp

from dreamgen_jax import errors, interfaces, types
from dreamgen_jax.layers import conv, latent, posterior
from dreamgen_jax.world_models.wan import vae_config, vae_networks

VaeConfig, PRESETS = vae_config.VaeConfig, vae_config.PRESETS
mode = posterior.mode


def latent_shape(
    config: VaeConfig, frames: int, height: int, width: int
) -> tuple[int, int, int, int]:
  """Shape (t, h', w', z) of the latent of a clip, see `layers.latent.grid`."""
  grid = latent.grid(frames, height, width, time=config.time_factor,
                     space=config.space_factor)
  return *grid, config.z_dim


def init(config: VaeConfig, rng: types.Array) -> interfaces.Params:
  """Fresh parameters {"encoder": ..., "decoder": ...}."""
  keys = jax.random.split(rng)
  frames, size = 1 + config.time_factor, config.space_factor
  video = jnp.zeros((1, frames, size, size, 3), config.dtype)
  z = jnp.zeros((1, *latent_shape(config, frames, size, size)), config.dtype)
  return {
      "encoder": vae_networks.Encoder(config).init(keys[0], video)["params"],
      "decoder": vae_networks.Decoder(config).init(keys[1], z)["params"],
  }


def encode(
    config: VaeConfig, params: interfaces.Params, video: types.Array,
) -> types.Array:
  """Video to the moments of its latent.

  Args:
    config: of the autoencoder.
    params: as of `init`.
    video: [b, f, h, w, 3] in [-1, 1].

  Returns:
    [b, t, h', w', 2 z], mean and log variance.

  Raises:
    ConfigError: the clip does not divide into latent frames and pixels.
  """
  frames = latent_shape(config, *video.shape[1:4])[0]
  return _run(vae_networks.Encoder(config), params["encoder"], video, frames,
              config.time_factor)


def decode(
    config: VaeConfig, params: interfaces.Params, z: types.Array,
) -> types.Array:
  """Latent to video.

  Args:
    config: of the autoencoder.
    params: as of `init`.
    z: [b, t, h', w', z], not normalised.

  Returns:
    [b, f, h, w, 3] in [-1, 1].
  """
  return jnp.clip(reconstruct(config, params, z), -1.0, 1.0)


def reconstruct(
    config: VaeConfig, params: interfaces.Params, z: types.Array,
) -> types.Array:
  """`decode` without the clamp, which would stop gradients in training."""
  return _run(vae_networks.Decoder(config), params["decoder"], z, z.shape[1],
              1)


def _run(network, params, x, frames, rate):
  """The network on `frames` latent frames; x has `rate` frames for each."""
  chunk = network.config.chunk
  if chunk is None:
    return network.apply({"params": params}, x)
  # The first chunk takes what the others leave over.
  first = 1 + rate * ((frames - 1) % chunk)
  return conv.in_chunks(
      lambda x, history: network.apply({"params": params}, x, history),
      x, first, rate * chunk)


def normalise(config: VaeConfig, z: types.Array) -> types.Array:
  """Latent [..., z] of the autoencoder -> what diffusion works on."""
  mean, std = _statistics(config, z.dtype)
  return (z - mean) / std


def denormalise(config: VaeConfig, latent: types.Array) -> types.Array:
  """The inverse of `normalise`."""
  mean, std = _statistics(config, latent.dtype)
  return latent * std + mean


def _statistics(config, dtype):
  mean, std = config.latents_mean, config.latents_std
  if not len(mean) == len(std) == config.z_dim:
    raise errors.ConfigError(
        f"latents_mean and latents_std have {len(mean)} and {len(std)} "
        f"numbers; z_dim asks for {config.z_dim}."
    )
  return jnp.asarray(mean, dtype), jnp.asarray(std, dtype)
