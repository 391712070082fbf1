"""CogVideoX behind the world model contract: encode, loss, generate.

Source: arXiv 2408.06072 and the released CogVideoX code. A clip is conditioned
on its first frame by channel concatenation: noise | latent of the frame, then
zeros. T5 reads the prompt without a mask, and its padding is attended. Where a
token spans two latent frames (CogVideoX 1.5), a frame is put in front of an
odd number of them, carries the condition, and is dropped before decoding.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from dreamgen_jax import errors, interfaces, types
from dreamgen_jax.diffusion import guide, process, v_prediction
from dreamgen_jax.diffusion import reuse as reuse_lib
from dreamgen_jax.encoders import t5
from dreamgen_jax.encoders import tokenizer as tokenizer_lib
from dreamgen_jax.layers import patches, pixels
from dreamgen_jax.world_models.cogvideox import dit, vae


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of the parts, the clip, and the sampler.

  Attributes:
    transformer, vae, text: the parts.
    frames, height, width, video_hz: the clip.
    steps, guidance: sampler defaults.
    sampler: "ddim" (no noise on the way) or "dpm" (the SDE solver).
    dynamic_guidance: let the guidance change from step to step as the released
      pipelines do, between 1 and 1 + guidance, see `Model.scale`.
    negative: prompt of the unguided branch, as released.
    reuse: steps of sampling that do without the blocks; off.
  """

  transformer: dit.Config
  vae: vae.Config
  text: t5.Config
  frames: int
  height: int
  width: int
  video_hz: float
  steps: int = 50
  guidance: float = 6.0
  sampler: str = "ddim"
  dynamic_guidance: bool = dataclasses.field(
      default=False, metadata=interfaces.LATER)
  negative: str = dataclasses.field(default="", metadata=interfaces.LATER)
  reuse: reuse_lib.Config = dataclasses.field(
      default=reuse_lib.Config(), metadata=interfaces.LATER)

  def __post_init__(self):
    t = self.transformer
    latent, text = self.vae.latent_channels, self.text.width
    if (t.in_channels, t.out_channels) != (2 * latent, latent):
      raise errors.ConfigError(
          f"The transformer reads {t.in_channels} and writes "
          f"{t.out_channels} channels; latents of {latent} ask for "
          f"{2 * latent} and {latent}.")
    if t.text_dim != text:
      raise errors.ConfigError(
          f"The text encoder's width is {text}, but the transformer's "
          f"text_dim is {t.text_dim}; they must be equal.")
    if self.sampler not in ("ddim", "dpm"):
      raise errors.ConfigError(f"Sampler {self.sampler!r}; have: ddim, dpm.")
    patches.check(self.latent_shape, t.patch, self.vae.space_factor)
    frames, height, width, _ = self.latent_shape
    tokens = t.text_len + math.prod(
        size // side for size, side in zip(
            (frames + self.front, height, width), t.patch, strict=True))
    if t.positions not in (None, tokens):
      raise errors.ConfigError(
          f"{self.frames} frames of {self.height}x{self.width} pixels, with "
          f"their text, are {tokens} tokens; this model has positions for "
          f"{t.positions}, and works at the released size alone.")

  @property
  def latent_shape(self) -> tuple[int, int, int, int]:
    """(t, h, w, c) of one clip's latent, without the frame put in front."""
    return vae.latent_shape(self.vae, self.frames, self.height, self.width)

  @property
  def front(self) -> int:
    """Latent frames put in front, so that patches over time come out even."""
    return -self.latent_shape[0] % self.transformer.patch[0]

  sees_last_frame = False
  sampling = ("sampler", "dynamic_guidance", "reuse")

  @property
  def experts(self) -> tuple[str, ...]:
    """Names of the parameters that are tuned."""
    return ("transformer",)

  @property
  def text_sees_frame(self) -> bool:
    """Prompts are read alone."""
    return False


@dataclasses.dataclass(frozen=True)
class Model:
  """Implements interfaces.WorldModel; params: transformer, vae, text.

  Batch: latent f32[b,t,h,w,c], condition f32[b,1,h,w,c], text f32[b,m,d].
  """

  config: Config

  def init(self, rng: types.Array) -> interfaces.Params:
    c = self.config
    keys = jax.random.split(rng, 3)
    batch = {name: jnp.zeros(leaf.shape, leaf.dtype)
             for name, leaf in self.example(1).items()}
    noisy = self._pad_front(batch["latent"])
    return {
        "transformer": dit.Transformer(c.transformer).init(
            keys[0], self._tell(noisy, batch["condition"]), jnp.zeros((1,)),
            batch["text"])["params"],
        "vae": vae.init(c.vae, keys[1]),
        "text": t5.Encoder(c.text).init(
            keys[2], jnp.zeros((1, c.transformer.text_len), jnp.int32)
        )["params"],
    }

  def example(self, batch_size: int) -> interfaces.Batch:
    c = self.config
    t, *latent = c.latent_shape
    shapes = {
        "latent": (t, *latent), "condition": (1, *latent),
        "text": (c.transformer.text_len, c.transformer.text_dim)}
    return {name: jax.ShapeDtypeStruct((batch_size, *shape), jnp.float32)
            for name, shape in shapes.items()}

  # --- encoders --------------------------------------------------------------

  def tokenize(self, tokenizer: tokenizers.Tokenizer,
               prompts: Sequence[str]) -> interfaces.Batch:
    """Prompts -> ids i32[b,m], on the host."""
    ids, _ = tokenizer_lib.encode(
        tokenizer, prompts, self.config.transformer.text_len)
    return {"ids": ids}

  def encode_video(self, params: interfaces.Params,
                   video: types.Array) -> types.Array:
    """u8[b,f,h,w,3] -> scaled latent f32[b,t,h,w,c] (the mean)."""
    return self._encode(params, video) * self.config.vae.scale

  def encode_frame(self, params: interfaces.Params,
                   frame: types.Array) -> interfaces.Batch:
    """First frame u8[b,h,w,3] -> condition f32[b,1,h,w,c], its own latent."""
    c = self.config.vae
    latent = self._encode(params, frame[:, None])
    scale = 1 / c.scale if c.divides_image else c.scale
    return {"condition": latent * scale}

  def encode_text(self, params: interfaces.Params, tokens: interfaces.Batch,
                  frame: types.Array | None = None) -> interfaces.Batch:
    """`tokenize`'s leaves -> text f32[b,m,d], padding like any other token."""
    del frame  # the prompt is read alone
    states = t5.Encoder(self.config.text).apply(
        {"params": params["text"]}, tokens["ids"])
    return {"text": states.astype(jnp.float32)}

  # --- training --------------------------------------------------------------

  def loss(self, params: interfaces.Params, rng: types.Array,
           batch: interfaces.Batch
           ) -> tuple[types.Array, dict[str, types.Array]]:
    """Squared error of v at steps drawn evenly, as the release is tuned.

    Diffusers' recipe writes it as the error of the data over 1 - alpha, which
    is the same number: data = a x - s v with s^2 = 1 - alpha.
    """
    step_rng, noise_rng = jax.random.split(rng)
    alphas = v_prediction.alphas()
    step = jax.random.randint(
        step_rng, batch["latent"].shape[:1], 0, len(alphas))
    error = self._errors(params, noise_rng, batch, step)
    # The house counts errors of noise - data, not of v.
    flow = v_prediction.flow_error(alphas, error, step)
    return jnp.mean(error), {"velocity_error": jnp.mean(flow)}

  def error_at(self, params: interfaces.Params, rng: types.Array,
               batch: interfaces.Batch, tau: types.Array) -> types.Array:
    """Squared error of the velocity, f32[b], at the steps nearest tau f32[b].
    """
    step = _step_at(tau)
    return v_prediction.flow_error(
        v_prediction.alphas(), self._errors(params, rng, batch, step), step)

  def guess(self, params: interfaces.Params, rng: types.Array,
            batch: interfaces.Batch, tau: types.Array) -> types.Array:
    """What a noisy clip is taken for, f32[b,t,h,w,c], at steps as above."""
    step = _step_at(tau)
    _, _, noisy, found = self._predict_at(params, rng, batch, step)
    data = v_prediction.data(v_prediction.alphas(), noisy, found, step)
    return data[:, self.config.front:]

  def _errors(self, params, rng, batch, step):
    """Squared error of v, f32[b], at step i32[b]."""
    data, noise, _, found = self._predict_at(params, rng, batch, step)
    error = (found - v_prediction.velocity(
        v_prediction.alphas(), data, noise, step)) ** 2
    return jnp.mean(error, axis=(1, 2, 3, 4))

  def _predict_at(self, params, rng, batch, step):
    """(data, noise, noisy data, its v), each f32[b,t + front,h,w,c]."""
    data = self._pad_front(batch["latent"])
    noise = jax.random.normal(rng, data.shape, data.dtype)
    noisy = process.corrupt_ddpm(v_prediction.alphas(), data, noise, step)
    return data, noise, noisy, self.predict(params, noisy, step, batch)

  def predict(self, params: interfaces.Params, noisy: types.Array,
              step: types.Array, batch: interfaces.Batch,
              memory: reuse_lib.Memory | None = None) -> types.Array:
    """The network's v, like `noisy` f32[b,t + front,h,w,c], at step [b]."""
    return dit.Transformer(self.config.transformer).apply(
        {"params": params["transformer"]},
        self._tell(noisy, batch["condition"]), step.astype(jnp.float32),
        batch["text"], memory)

  def _tell(self, noisy, condition):
    """Noise | condition in the first frame, then zeros, along the channels."""
    later = noisy.shape[1] - condition.shape[1]
    rest = ((0, 0), (0, later), (0, 0), (0, 0), (0, 0))
    condition = jnp.pad(condition.astype(noisy.dtype), rest)  # b t h w c
    return jnp.concatenate([noisy, condition], axis=-1)

  def _pad_front(self, latent):
    """Puts copies of the first latent frame in front: [b,t + front,h,w,c]."""
    front = -latent.shape[1] % self.config.transformer.patch[0]
    copies = latent[:, :1].repeat(front, 1)
    return jnp.concatenate([copies, latent], axis=1)

  # --- dreaming --------------------------------------------------------------

  def generate(self, params: interfaces.Params, rng: types.Array,
               frame: types.Array, text: interfaces.Batch,
               empty_text: interfaces.Batch, *, steps: int | None = None,
               guidance: float | None = None,
               memory: reuse_lib.Memory | None = None) -> types.Array:
    """As `interfaces.WorldModel`; `memory` instead of one by the config."""
    c = self.config
    t, *latent = c.latent_shape
    shape = (c.front + t, *latent)

    def draw(number):
      return jax.vmap(lambda key: jax.random.normal(
          jax.random.fold_in(key, number), shape))(rng)

    latent = self.denoise(
        params, draw(0), self.encode_frame(params, frame), text, empty_text,
        draw=lambda call: draw(1 + call), steps=steps, guidance=guidance,
        memory=memory)
    return self.decode(params, latent)

  def denoise(self, params, noise, given, text, empty_text, *, draw,
              steps=None, guidance=None, memory=None) -> types.Array:
    """As `generate`, from noise and `encode_frame`'s leaves to the latent.

    `draw` is that of `v_prediction.dpm_solver`; "ddim" does not call it.
    """
    c, steps = self.config, steps or self.config.steps
    cond, uncond = {**given, **text}, {**given, **empty_text}
    scale = self.scale(steps, c.guidance if guidance is None else guidance)
    if memory is None:
      memory = reuse_lib.planned(c.reuse, steps)

    def predict(noisy, step, memory):
      def v(noisy, step, batch):
        return self.predict(
            params, noisy, jnp.full(noisy.shape[:1], step), batch, memory)

      return guide.classifier_free(v, scale)(noisy, step, (cond,), (uncond,))

    predict = reuse_lib.remember(predict, noise, memory)
    route = (predict, noise, v_prediction.alphas(), steps)
    if c.sampler == "dpm":
      latent = v_prediction.dpm_solver(*route, draw)
    else:
      latent = v_prediction.ddim(*route)
    return latent[:, c.front:]

  def scale(self, steps: int, guidance: float
            ) -> float | Callable[[types.Array], types.Array]:
    """What guides at each step of the schedule, step f32[] -> f32[].

    A curve of the share of the way that lies behind, says the formula; but the
    released one takes the steps of the schedule, up to 999, for those of the
    sampler, and jumps. Weights and users know it so. Source: diffusers
    `pipeline_cogvideox_image2video.py`.
    """
    if not self.config.dynamic_guidance or guidance == 1.0:
      return guidance
    share = (steps - np.arange(process.TRAIN_STEPS)) / steps
    curve = 1 + guidance * (1 - np.cos(np.pi * share**5)) / 2
    table = jnp.asarray(curve, jnp.float32)
    return lambda step: table[step.astype(int)]

  def decode(self, params: interfaces.Params,
             latent: types.Array) -> types.Array:
    """Scaled latent f32[b,t,h,w,c] -> u8[b,f,h,w,3]."""
    c = self.config.vae
    video = jnp.clip(vae.decode(c, params["vae"], latent / c.scale), -1, 1)
    return pixels.from_unit(video)

  def _encode(self, params, video):
    """Video [b,f,h,w,3], u8 or f32 in [-1, 1] -> latent, not scaled."""
    moments = vae.encode(
        self.config.vae, params["vae"], pixels.to_unit(video))
    return vae.mode(moments).astype(jnp.float32)


def _step_at(tau):
  """The steps i32[b] nearest tau f32[b].

  The process here, x = a data + s noise, is the house's times a + s.
  """
  alphas = v_prediction.alphas()
  signal, spread = np.sqrt(alphas), np.sqrt(1 - alphas)
  levels = jnp.asarray(spread / (signal + spread), jnp.float32)
  return jnp.argmin(jnp.abs(tau[:, None] - levels), axis=1)
