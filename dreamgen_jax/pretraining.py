"""Training a world model's parts from nothing, whatever family it is of.

Released models are never trained this way here; nano models are. What a family
has to say for it is its `Recipe`, in `world_models/<family>/pretrain.py`. The
objectives work on the parameter tree of the family's Model, so that what comes
out is saved and loads like a released checkpoint.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax import interfaces, types
from dreamgen_jax.layers import pixels, posterior

Loss = tuple[types.Array, dict[str, types.Array]]


def per_channel(mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
  """Latents are normalised channel by channel."""
  return {"latents_mean": tuple(mean), "latents_std": tuple(std)}


def one_scale(mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
  """Latents are all multiplied by one number, which makes their deviation 1."""
  means, deviations = np.asarray(mean), np.asarray(std)
  variance = np.mean(deviations**2 + means**2) - np.mean(means) ** 2
  return {"scale": float(variance**-0.5)}


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What a family says so that its parts can be trained from nothing.

  Attributes:
    init: (the autoencoder's config, key) -> its parameters.
    encode: (config, parameters, video f32[b,f,h,w,3] in [-1, 1]) -> moments
      f32[b,t,h,w,2c].
    decode: (config, parameters, f32[b,t,h,w,c]) -> video, without a clamp,
      which would stop gradients.
    normalise: (mean, deviation of each channel) -> the fields of the
      autoencoder's config that say how latents are normalised.
    tokenizer: a trained one -> what the Model's `tokenize` takes.
  """

  init: Callable[[Any, types.Array], interfaces.Params]
  encode: Callable[..., types.Array]
  decode: Callable[..., types.Array]
  normalise: Callable[[Sequence[float], Sequence[float]], dict[str, Any]]
  tokenizer: Callable[[Any], Any] = lambda words: words

  def normalised(self, model: Any, mean: Sequence[float],
                 std: Sequence[float]) -> Any:
    """The model with the latent normalisation of a trained autoencoder."""
    return dataclasses.replace(model, config=dataclasses.replace(
        model.config, vae=dataclasses.replace(
            model.config.vae, **self.normalise(mean, std))))


@dataclasses.dataclass(frozen=True)
class Autoencoder:
  """L1 and squared error of the reconstruction, and a light KL term.

  Parameters: the autoencoder's. Batch: video u8[b,f,h,w,3]; random crops of
  `crop_frames` x `crop_size` are cut from it, since the networks are
  convolutional.
  """

  model: interfaces.WorldModel
  recipe: Recipe
  crop_size: int
  crop_frames: int
  kl_weight: float = 1e-5
  squared_weight: float = 4.0

  def init(self, rng: types.Array) -> interfaces.Params:
    """Fresh parameters."""
    return self.recipe.init(self.model.config.vae, rng)

  def loss(self, params: interfaces.Params, rng: types.Array,
           batch: interfaces.Batch) -> Loss:
    """The sum of the three, and each."""
    crop_rng, noise_rng = jax.random.split(rng)
    video = pixels.to_unit(self._crop(crop_rng, batch["video"]))
    config = self.model.config.vae
    moments = self.recipe.encode(config, params, video)
    again = self.recipe.decode(
        config, params, posterior.sample(moments, noise_rng))
    error = again - video
    kl = posterior.divergence(moments)
    absolute, squared = jnp.mean(jnp.abs(error)), jnp.mean(error**2)
    loss = absolute + self.squared_weight * squared + self.kl_weight * kl
    psnr = -10 * jnp.log10(squared / 4)
    return loss, {"l1": absolute, "psnr": psnr, "kl": kl}

  def encode(self, params: interfaces.Params,
             video: types.Array) -> types.Array:
    """Video u8[b,f,h,w,3] -> mean of its latent f32[b,t,h,w,c]."""
    return posterior.mode(self.recipe.encode(
        self.model.config.vae, params, pixels.to_unit(video)))

  def reconstruct(self, params: interfaces.Params,
                  video: types.Array) -> types.Array:
    """Video u8[b,f,h,w,3] -> the same, encoded and decoded."""
    again = self.recipe.decode(
        self.model.config.vae, params, self.encode(params, video))
    return pixels.from_unit(jnp.clip(again, -1.0, 1.0))

  def _crop(self, rng, video):
    b, f, h, w, _ = video.shape
    size, frames = self.crop_size, self.crop_frames
    y, x, t = (
        jax.random.randint(key, (b,), 0, extent - want + 1)
        for key, extent, want in zip(
            jax.random.split(rng, 3), (h, w, f), (size, size, frames),
            strict=True))

    def cut(video, t, y, x):
      return jax.lax.dynamic_slice(
          video, (t, y, x, 0), (frames, size, size, 3))

    return jax.vmap(cut)(video, t, y, x)


@dataclasses.dataclass(frozen=True)
class TextToVideo:
  """The world model's own loss with its text encoders in the loop.

  Parameters: all but the autoencoder's. Batch: as the model's, but for the
  leaves of `tokenize` in place of text, and frame u8[b,h,w,3] where a prompt
  is read with one.

  Attributes:
    model: the world model.
    empty: leaves [1, ...] of the empty prompt, which replaces a sample's own
      with probability `text_dropout`, for classifier-free guidance.
  """

  model: interfaces.WorldModel
  empty: Mapping[str, np.ndarray]
  text_dropout: float

  def init(self, rng: types.Array) -> interfaces.Params:
    """Fresh parameters."""
    return {name: tree for name, tree in self.model.init(rng).items()
            if name != "vae"}

  def loss(self, params: interfaces.Params, rng: types.Array,
           batch: interfaces.Batch) -> Loss:
    """The model's own."""
    drop_rng, rng = jax.random.split(rng)
    drop = jax.random.bernoulli(
        drop_rng, self.text_dropout, batch["latent"].shape[:1])
    tokens = {
        name: jnp.where(jnp.expand_dims(drop, range(1, batch[name].ndim)),
                        empty, batch[name])
        for name, empty in self.empty.items()}
    text = self.model.encode_text(params, tokens, batch.get("frame"))
    return self.model.loss(params, rng, {**batch, **text})
