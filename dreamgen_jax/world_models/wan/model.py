"""Wan behind the world model contract: encode, loss, generate.

Source: arXiv 2503.20314 and the released Wan 2.1 code. A clip is conditioned
on its first frame by channel concatenation: noise | mask | latent of the
frame followed by grey frames. Wan 2.1 also attends to the frame's CLIP states.
"""

import dataclasses

import jax
import jax.numpy as jnp

from dreamgen_jax import errors, interfaces, types
from dreamgen_jax.diffusion import guide, process, sample
from dreamgen_jax.encoders import clip, t5
from dreamgen_jax.world_models.wan import condition, dit, vae


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of the parts, the clip, and the flow.

  Attributes:
    transformer, vae, text: the parts.
    frames, height, width, video_hz: the clip; frames = 4 n + 1.
    train_shift, sample_shift: flow-matching shift of training and sampling.
    steps, guidance: sampler defaults (Wan I2V: 40 steps, 5.0).
    weighted: use the training-time weighting of the released recipe.
    image: the tower of the transformer's image branch, where it has one.
  """

  transformer: dit.Config
  vae: vae.VaeConfig
  text: t5.Config
  frames: int
  height: int
  width: int
  video_hz: float
  train_shift: float = 5.0
  sample_shift: float = 3.0
  steps: int = 40
  guidance: float = 5.0
  weighted: bool = True
  image: clip.Config | None = None

  def __post_init__(self):
    width = self.image.width if self.image else None
    if width != self.transformer.image_dim:
      raise errors.ConfigError(
          f"The image tower's width is {width}, but the transformer's "
          f"image_dim is {self.transformer.image_dim}; they must be equal.")

  @property
  def latent_shape(self) -> tuple[int, int, int, int]:
    """(t, h, w, c) of one clip's latent."""
    return vae.latent_shape(self.vae, self.frames, self.height, self.width)


@dataclasses.dataclass(frozen=True)
class Model:
  """Implements interfaces.WorldModel; params: transformer, vae, text.

  Where the config has an image tower, there are also params "image" and a
  batch leaf "image" f32[b,i,d], the states of the first frame.
  """

  config: Config

  def init(self, rng: types.Array) -> interfaces.Params:
    c = self.config
    keys = jax.random.split(rng, 3)
    batch = {name: jnp.zeros(leaf.shape, leaf.dtype)
             for name, leaf in self.example(1).items()}
    params = {
        "transformer": dit.Transformer(c.transformer).init(
            keys[0], self._join(batch["latent"], batch["condition"]),
            jnp.zeros((1,)), batch["text"], batch.get("image"))["params"],
        "vae": vae.init(c.vae, keys[1]),
        "text": t5.Encoder(c.text).init(
            keys[2], jnp.zeros((1, c.transformer.text_len), jnp.int32),
            jnp.ones((1, c.transformer.text_len), bool))["params"],
    }
    if c.image:
      size = c.image.image_size
      params["image"] = clip.Tower(c.image).init(
          jax.random.fold_in(rng, 3), jnp.zeros((1, size, size, 3)))["params"]
    return params

  def example(self, batch_size: int) -> interfaces.Batch:
    c = self.config
    latent = (batch_size, *c.latent_shape)
    text = (batch_size, c.transformer.text_len, c.transformer.text_dim)
    batch = {
        "latent": jax.ShapeDtypeStruct(latent, jnp.float32),
        "condition": jax.ShapeDtypeStruct(latent, jnp.float32),
        "text": jax.ShapeDtypeStruct(text, jnp.float32),
    }
    if c.image:
      batch["image"] = jax.ShapeDtypeStruct(
          (batch_size, c.image.tokens, c.image.width), jnp.float32)
    return batch

  def encode_video(self, params: interfaces.Params,
                   video: types.Array) -> types.Array:
    """u8[b,f,h,w,3] -> normalised latent f32[b,t,h,w,c] (the mean)."""
    return self._encode(params, _to_unit(video))

  def encode_condition(self, params: interfaces.Params,
                       frame: types.Array) -> types.Array:
    """First frame u8[b,h,w,3] -> latent f32[b,t,h,w,c] of [frame, grey...]."""
    return self._encode(
        params, condition.clip(_to_unit(frame), self.config.frames))

  def encode_image(self, params: interfaces.Params,
                   frame: types.Array) -> types.Array:
    """First frame u8[b,h,w,3] -> CLIP states f32[b,i,d], class token first."""
    c = self.config.image
    tokens, _ = clip.Tower(c).apply(
        {"params": params["image"]},
        clip.prepare(_to_unit(frame), c.image_size))
    return tokens.astype(jnp.float32)

  def encode_text(self, params: interfaces.Params, tokens: types.Array,
                  mask: types.Array) -> types.Array:
    """i32[b,m], bool[b,m] -> f32[b,m,d], zero past each prompt's end."""
    states = t5.Encoder(self.config.text).apply(
        {"params": params["text"]}, tokens, mask)
    return t5.zero_padding(states, mask).astype(jnp.float32)

  def loss(self, params: interfaces.Params, rng: types.Array,
           batch: interfaces.Batch
           ) -> tuple[types.Array, dict[str, types.Array]]:
    """Weighted squared error of the velocity, noise - data."""
    tau_rng, noise_rng = jax.random.split(rng)
    latent = batch["latent"]
    tau = process.sample_tau(
        tau_rng, latent.shape[0], shift=self.config.train_shift)
    noise = jax.random.normal(noise_rng, latent.shape, latent.dtype)
    noisy = process.corrupt(latent, noise, tau)
    velocity = self.velocity(
        params, noisy, tau, batch["condition"], batch["text"],
        batch.get("image"))
    error = jnp.mean((velocity - process.velocity(latent, noise)) ** 2,
                     axis=(1, 2, 3, 4))
    weight = process.weight(tau, shift=self.config.train_shift) if (
        self.config.weighted) else 1.0
    return jnp.mean(weight * error), {"velocity_error": jnp.mean(error)}

  def velocity(self, params, noisy, tau, cond, text, image=None):
    """The network's velocity f32[b,t,h,w,c] at tau f32[b]."""
    return dit.Transformer(self.config.transformer).apply(
        {"params": params["transformer"]}, self._join(noisy, cond),
        1000.0 * tau, text, image)  # the released network counts time to 1000

  def generate(self, params: interfaces.Params, rng: types.Array,
               frame: types.Array, text: types.Array,
               empty_text: types.Array, *, steps: int | None = None,
               guidance: float | None = None) -> types.Array:
    """Dreams a clip from its first frame.

    Args:
      params: the model's parameters.
      rng: one key per clip, key[b], so that a clip does not depend on the
        batch that it is made in.
      frame: u8[b,h,w,3].
      text, empty_text: f32[b,m,d] of the prompt and of the negative prompt.
      steps, guidance: instead of the config's.

    Returns:
      u8[b,f,h,w,3].
    """
    latent = self.generate_latent(
        params, rng, self.encode_condition(params, frame), text, empty_text,
        image=self.encode_image(params, frame) if self.config.image else None,
        steps=steps, guidance=guidance)
    return self.decode(params, latent)

  def generate_latent(self, params, rng, cond, text, empty_text, *,
                      image=None, steps=None, guidance=None) -> types.Array:
    """As `generate`, from the encoded frame to the clip's latent."""
    c = self.config
    noise = jax.vmap(
        lambda key: jax.random.normal(key, c.latent_shape))(rng)

    def velocity(noisy, timestep, cond, text, image):
      tau = jnp.full(noisy.shape[:1], timestep / 1000.0)
      return self.velocity(params, noisy, tau, cond, text, image)

    guided = guide.classifier_free(
        velocity, c.guidance if guidance is None else guidance)
    return sample.unipc(
        lambda x, timestep: guided(
            x, timestep, (cond, text, image), (cond, empty_text, image)),
        noise, sample.wan_sigmas(steps or c.steps, c.sample_shift))

  def decode(self, params: interfaces.Params,
             latent: types.Array) -> types.Array:
    """Normalised latent f32[b,t,h,w,c] -> u8[b,f,h,w,3]."""
    c = self.config.vae
    video = vae.decode(c, params["vae"], vae.denormalise(c, latent))
    return jnp.round((video + 1) * 127.5).astype(jnp.uint8)

  def _join(self, noisy, cond):
    return condition.join(noisy, cond, self.config.vae.time_factor)

  def _encode(self, params, video):
    c = self.config.vae
    moments = vae.encode(c, params["vae"], video)
    return vae.normalise(c, vae.mode(moments)).astype(jnp.float32)


def _to_unit(frames: types.Array) -> types.Array:
  return frames.astype(jnp.float32) / 127.5 - 1
