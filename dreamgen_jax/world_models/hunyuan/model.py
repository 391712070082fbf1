"""HunyuanVideo, image to video, behind the world model contract.

Source: arXiv 2412.03603 and the released HunyuanVideo-I2V code. A clip is told
its first frame in one of two ways. By replacement: the frame's latent stands
where the first latent frame's noise would, at time 0. By channels: noise |
latent of the frame | mask; then the first latent frame is a copy of the given
one that is dropped, with its `time_factor` video frames, after decoding. So
that a dream begins with its first frame all the same, a clip to learn from is
given that many copies of it in front.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from dreamgen_jax import errors, interfaces, types
from dreamgen_jax.diffusion import guide, process, sample
from dreamgen_jax.diffusion import reuse as reuse_lib
from dreamgen_jax.encoders import clip, clip_text, llava
from dreamgen_jax.layers import patches, pixels
from dreamgen_jax.world_models.hunyuan import dit, prompt, vae

_NOISE = 0.999  # the share of noise in what sampling starts from


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of the parts, the clip, and the flow.

  Attributes:
    transformer, vae: two of the parts.
    text, text_2: LLaVA, of image and prompt; CLIP, of the prompt.
    prompt: the template around the prompt.
    frames, height, width, video_hz: the clip that comes out; frames = 4 n + 1.
    shift: flow-matching shift of training and sampling.
    steps: of the sampler.
    guidance: the scale that the transformer is told, in training too; or,
      where it is told none, that of classifier-free guidance.
    negative: prompt of the unguided branch, as released.
    reuse: steps of sampling that do without the blocks; off.
  """

  transformer: dit.Config
  vae: vae.Config
  text: llava.Config
  text_2: clip_text.Config
  prompt: prompt.Config
  frames: int
  height: int
  width: int
  video_hz: float
  shift: float = 7.0
  steps: int = 50
  guidance: float = 6.0
  negative: str = dataclasses.field(default="", metadata=interfaces.LATER)
  reuse: reuse_lib.Config = dataclasses.field(
      default=reuse_lib.Config(), metadata=interfaces.LATER)

  def __post_init__(self):
    t, z = self.transformer, self.vae.z_dim
    wanted = {dit.REPLACE: z, dit.CONCAT: 2 * z + 1}.get(t.image)
    if wanted is None:
      raise errors.ConfigError(
          "A world model starts from a frame; this transformer's image is "
          f"None. It can be {dit.REPLACE} or {dit.CONCAT}.")
    for what, found, want in (
        ("in_channels", t.in_channels, wanted),
        ("out_channels", t.out_channels, z),
        ("text_dim", t.text_dim, self.text.language.width),
        ("pooled_dim", t.pooled_dim, self.text_2.width)):
      if found != want:
        raise errors.ConfigError(
            f"The transformer's {what} is {found}; the other parts make it "
            f"{want}.")
    patches.check(self.latent_shape, t.patch, self.vae.space_factor)

  @property
  def dropped(self) -> int:
    """Video frames in front that are denoised, but do not come out."""
    concat = self.transformer.image == dit.CONCAT
    return self.vae.time_factor if concat else 0

  @property
  def latent_shape(self) -> tuple[int, int, int, int]:
    """(t, h, w, c) of one clip's latent."""
    return vae.latent_shape(
        self.vae, self.frames + self.dropped, self.height, self.width)

  experts = ("transformer",)
  text_sees_frame, sees_last_frame = True, False
  sampling = ("shift", "reuse")


@dataclasses.dataclass(frozen=True)
class Model:
  """Implements interfaces.WorldModel.

  Parameters: transformer, vae, text, text_2. Batch: latent f32[b,t,h,w,c];
  condition f32[b,1,h,w,c], the latent of the first frame alone; text f32[b,m,d]
  and text_mask bool[b,m], rows of the image and of the prompt; text_pooled
  f32[b,k], the prompt's vector.
  """

  config: Config

  def init(self, rng: types.Array) -> interfaces.Params:
    c, keys = self.config, jax.random.split(rng, 4)
    batch = {name: jnp.zeros(leaf.shape, leaf.dtype)
             for name, leaf in self.example(1).items()}
    ids = jnp.zeros((1, c.prompt.tokens(c.text)), jnp.int32)
    size = c.text.vision.image_size
    return {
        "transformer": dit.Transformer(c.transformer).init(
            keys[0], *self._inputs(batch["latent"], jnp.zeros((1,)), batch,
                                   c.guidance))["params"],
        "vae": vae.init(c.vae, keys[1]),
        "text": llava.Reader(c.text).init(
            keys[2], ids, ids == 0, jnp.zeros((1, size, size, 3)))["params"],
        "text_2": clip_text.Tower(c.text_2).init(
            keys[3], jnp.zeros((1, c.text_2.length), jnp.int32))["params"],
    }

  def example(self, batch_size: int) -> interfaces.Batch:
    c = self.config
    _, *latent = c.latent_shape
    rows = c.prompt.rows(c.text)
    shapes = {
        "latent": (c.latent_shape, jnp.float32),
        "condition": ((1, *latent), jnp.float32),
        "text": ((rows, c.transformer.text_dim), jnp.float32),
        "text_mask": ((rows,), jnp.bool_),
        "text_pooled": ((c.transformer.pooled_dim,), jnp.float32),
    }
    return {name: jax.ShapeDtypeStruct((batch_size, *shape), dtype)
            for name, (shape, dtype) in shapes.items()}

  # --- encoders --------------------------------------------------------------

  def tokenize(self, tokenizer: Mapping[str, tokenizers.Tokenizer],
               prompts: Sequence[str]) -> interfaces.Batch:
    """Prompts -> what `prompt.tokenize` says, by {"llama": ..., "clip": ...}.
    """
    c = self.config
    return prompt.tokenize(c.prompt, c.text, c.text_2, tokenizer, prompts)

  def encode_video(self, params: interfaces.Params,
                   video: types.Array) -> types.Array:
    """u8[b,f,h,w,3] -> normalised latent f32[b,t,h,w,c] (the mean)."""
    front = jnp.repeat(video[:, :1], self.config.dropped, axis=1)
    return self._encode(
        params, pixels.to_unit(jnp.concatenate([front, video], axis=1)))

  def encode_frame(self, params: interfaces.Params,
                   frame: types.Array) -> interfaces.Batch:
    """First frame u8[b,h,w,3] -> condition f32[b,1,h,w,c]."""
    return {"condition": self._encode(params, pixels.to_unit(frame)[:, None])}

  def encode_text(self, params: interfaces.Params, tokens: interfaces.Batch,
                  frame: types.Array | None = None) -> interfaces.Batch:
    """`tokenize`'s leaves and frame u8[b,h,w,3] -> the leaves of a prompt.

    Raises:
      DataError: no frame, which LLaVA reads together with the prompt.
    """
    if frame is None:
      raise errors.DataError(
          "HunyuanVideo reads a prompt together with a frame, and there is "
          "none.")
    c = self.config
    images = clip.prepare(
        pixels.to_unit(frame), c.text.vision.image_size, crop=True)
    states, _ = llava.Reader(c.text).apply(
        {"params": params["text"]}, tokens["ids"], tokens["mask"], images)
    rows, mask = tokens["rows"], tokens["rows_mask"]
    text = jnp.take_along_axis(states, rows[..., None], axis=1)  # b r d
    text = jnp.where(mask[..., None], text, 0)
    _, pooled = clip_text.Tower(c.text_2).apply(
        {"params": params["text_2"]}, tokens["pooled_ids"])
    return {"text": text.astype(jnp.float32), "text_mask": mask,
            "text_pooled": pooled.astype(jnp.float32)}

  # --- training --------------------------------------------------------------

  def loss(self, params: interfaces.Params, rng: types.Array,
           batch: interfaces.Batch
           ) -> tuple[types.Array, dict[str, types.Array]]:
    """Squared error of the velocity; times are logit-normal before the shift.

    Source: HunyuanVideo-I2V `diffusion/flow/transport.py`.
    """
    tau_rng, noise_rng = jax.random.split(rng)
    tau = process.sample_tau(
        tau_rng, len(batch["latent"]), shift=self.config.shift,
        density="logit_normal")
    error = jnp.mean(self.error_at(params, noise_rng, batch, tau))
    return error, {"velocity_error": error}

  def error_at(self, params: interfaces.Params, rng: types.Array,
               batch: interfaces.Batch, tau: types.Array) -> types.Array:
    """Squared error of the velocity, f32[b], at tau f32[b]."""
    noise, _, velocity = self._velocity_at(params, rng, batch, tau)
    error = (velocity - process.velocity(batch["latent"], noise)) ** 2
    if self.config.transformer.image == dit.REPLACE:
      error = error[:, 1:]  # the first frame was never noisy
    return jnp.mean(error, axis=(1, 2, 3, 4))

  def guess(self, params: interfaces.Params, rng: types.Array,
            batch: interfaces.Batch, tau: types.Array) -> types.Array:
    """What a noisy clip is taken for, f32[b,t,h,w,c], at tau f32[b]."""
    _, noisy, velocity = self._velocity_at(params, rng, batch, tau)
    latent = process.data(noisy, velocity, tau)
    if self.config.transformer.image == dit.REPLACE:
      latent = latent.at[:, :1].set(batch["condition"])
    return latent

  def _velocity_at(self, params, rng, batch, tau):
    """(noise, noisy clips, their velocity), each f32[b,t,h,w,c]."""
    latent = batch["latent"]
    noise = jax.random.normal(rng, latent.shape, latent.dtype)
    noisy = process.corrupt(latent, noise, tau)
    return noise, noisy, self.velocity(params, noisy, tau, batch)

  def velocity(self, params: interfaces.Params, noisy: types.Array,
               tau: types.Array, batch: interfaces.Batch,
               guidance: float | None = None,
               memory: reuse_lib.Memory | None = None) -> types.Array:
    """The velocity f32[b,t,h,w,c] at tau f32[b]; of a given frame it is 0."""
    c = self.config
    velocity = dit.Transformer(c.transformer).apply(
        {"params": params["transformer"]}, *self._inputs(
            noisy, tau, batch, c.guidance if guidance is None else guidance),
        memory=memory)
    if c.transformer.image == dit.REPLACE:
      velocity = velocity.at[:, :1].set(0)
    return velocity

  def _inputs(self, noisy, tau, batch, guidance):
    """All that the transformer reads, in training and in dreaming alike."""
    t, given = self.config.transformer, batch["condition"]
    if t.image == dit.REPLACE:
      latent = noisy.at[:, :1].set(given)
    else:
      frames = ((0, 0), (0, noisy.shape[1] - 1), (0, 0), (0, 0), (0, 0))
      given = jnp.concatenate([given, jnp.ones_like(given[..., :1])], axis=-1)
      latent = jnp.concatenate([noisy, jnp.pad(given, frames)], axis=-1)
    # The released network counts time, and guidance, in thousandths.
    scale = jnp.full_like(tau, 1000.0 * guidance) if t.guidance else None
    return (latent, 1000.0 * tau, batch["text"], batch["text_mask"],
            batch["text_pooled"], scale)

  # --- dreaming --------------------------------------------------------------

  def generate(self, params: interfaces.Params, rng: types.Array,
               frame: types.Array, text: interfaces.Batch,
               empty_text: interfaces.Batch, *, steps: int | None = None,
               guidance: float | None = None,
               memory: reuse_lib.Memory | None = None) -> types.Array:
    """As `interfaces.WorldModel`; `memory` instead of one by the config.

    The empty text is read only where the transformer is told no guidance.
    """
    noise = jax.vmap(lambda key: jax.random.normal(
        key, self.config.latent_shape))(rng)
    latent = self.denoise(
        params, noise, self.encode_frame(params, frame), text, empty_text,
        steps=steps, guidance=guidance, memory=memory)
    return self.decode(params, latent)

  def denoise(self, params: interfaces.Params, noise: types.Array,
              given: interfaces.Batch, text: interfaces.Batch,
              empty_text: interfaces.Batch, *, steps: int | None = None,
              guidance: float | None = None,
              memory: reuse_lib.Memory | None = None) -> types.Array:
    """As `generate`, from noise and `encode_frame`'s leaves to the latent."""
    c = self.config
    scale = c.guidance if guidance is None else guidance
    condition = given["condition"]
    latent = _NOISE * noise + (1 - _NOISE) * condition  # b t h w c
    if c.transformer.image == dit.REPLACE:
      latent = latent.at[:, :1].set(condition)

    def predict(noisy, timestep, memory):
      def velocity(noisy, timestep, batch):
        tau = jnp.full(noisy.shape[:1], timestep / 1000.0)
        return self.velocity(params, noisy, tau, batch, scale, memory)

      guided = guide.classifier_free(
          velocity, 1.0 if c.transformer.guidance else scale)
      return guided(noisy, timestep, ({**given, **text},),
                    ({**given, **empty_text},))

    steps = steps or c.steps
    if memory is None:
      memory = reuse_lib.planned(c.reuse, steps)
    sigmas = sample.shifted_sigmas(np.arange(steps, 0, -1) / steps, c.shift)
    return sample.euler(
        reuse_lib.remember(predict, latent, memory), latent, sigmas)

  def decode(self, params: interfaces.Params,
             latent: types.Array) -> types.Array:
    """Normalised latent f32[b,t,h,w,c] -> u8[b,f,h,w,3]."""
    c = self.config
    video = vae.decode(c.vae, params["vae"], latent / c.vae.scale)
    video = video[:, c.dropped:]
    return pixels.from_unit(video)

  def _encode(self, params, video):
    c = self.config.vae
    mean = vae.mode(vae.encode(c, params["vae"], video))
    return mean.astype(jnp.float32) * c.scale
