"""Training Wan's parts from nothing: the VAE, and transformer with text.

The released models are never trained this way here; the nano model that ships
with the package is. Both objectives are Trainables over the same parameter
tree as `model.Model`, so that what comes out loads like a released checkpoint.
"""

import dataclasses

import jax
import jax.numpy as jnp

from dreamgen_jax import interfaces, types
from dreamgen_jax.encoders import tokenizer
from dreamgen_jax.layers import pixels
from dreamgen_jax.world_models.wan import model as model_lib
from dreamgen_jax.world_models.wan import vae


@dataclasses.dataclass(frozen=True)
class VaeObjective:
  """L1 and squared error of the reconstruction, and a light KL term.

  Batch: video u8[b,f,h,w,3]; random crops of `crop_frames` x `crop_size` are
  cut from it in training, since the networks are convolutional.
  """

  model: model_lib.Model
  crop_size: int
  crop_frames: int
  kl_weight: float = 1e-5
  squared_weight: float = 4.0

  def init(self, rng: types.Array) -> interfaces.Params:
    return vae.init(self.model.config.vae, rng)

  def example(self, batch_size: int) -> interfaces.Batch:
    c = self.model.config
    shape = (batch_size, c.frames, c.height, c.width, 3)
    return {"video": jax.ShapeDtypeStruct(shape, jnp.uint8)}

  def loss(self, params, rng, batch):
    crop_rng, noise_rng = jax.random.split(rng)
    video = self._crop(crop_rng, batch["video"])
    video = pixels.to_unit(video)
    config = self.model.config.vae
    moments = vae.encode(config, params, video)
    again = vae.reconstruct(config, params, vae.sample(moments, noise_rng))
    error = again - video
    kl = vae.divergence(moments)
    absolute, squared = jnp.mean(jnp.abs(error)), jnp.mean(error**2)
    loss = absolute + self.squared_weight * squared + self.kl_weight * kl
    psnr = -10 * jnp.log10(squared / 4)
    return loss, {"l1": absolute, "psnr": psnr, "kl": kl}

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
  """The world model's own loss with its text encoder in the loop.

  Batch: as `model.Model`, with ids i32[b,m] and mask bool[b,m] in place of
  text. A prompt is emptied with probability `text_dropout`, for
  classifier-free guidance.
  """

  model: model_lib.Model
  text_dropout: float = 0.1

  def init(self, rng: types.Array) -> interfaces.Params:
    return {name: tree for name, tree in self.model.init(rng).items()
            if name != "vae"}

  def example(self, batch_size: int) -> interfaces.Batch:
    batch = dict(self.model.example(batch_size))
    del batch["text"]
    shape = (batch_size, self.model.config.transformer.text_len)
    return batch | {
        "ids": jax.ShapeDtypeStruct(shape, jnp.int32),
        "mask": jax.ShapeDtypeStruct(shape, jnp.bool_)}

  def loss(self, params, rng, batch):
    batch = dict(batch)
    ids, mask = batch.pop("ids"), batch.pop("mask")
    drop_rng, rng = jax.random.split(rng)
    drop = jax.random.bernoulli(
        drop_rng, self.text_dropout, (ids.shape[0], 1))
    first = jnp.arange(ids.shape[1]) == 0
    empty = jnp.where(first, tokenizer.END_ID, tokenizer.PAD_ID)
    text = self.model.encode_text(params, {
        "ids": jnp.where(drop, empty, ids),
        "mask": jnp.where(drop, first, mask)})
    return self.model.loss(params, rng, batch | text)
