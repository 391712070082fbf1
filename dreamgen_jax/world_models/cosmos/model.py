"""Cosmos-Predict2 Video2World behind the world model contract.

Source: the released cosmos-predict2 code. The first latent frame (or two) is
given: it stands in place of the noise, a mask channel says so, its tokens go
by a time of almost 0, and what the network says of it is not used. The
autoencoder is Wan 2.1's, and since that is causal, the latent of the frame
alone is what the release cuts from a clip padded after it (by repeating the
last frame, as the release does for videos, or with black).
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import tokenizers

from dreamgen_jax import errors, interfaces, types
from dreamgen_jax.diffusion import edm, guide, process
from dreamgen_jax.diffusion import reuse as reuse_lib
from dreamgen_jax.encoders import t5
from dreamgen_jax.encoders import tokenizer as tokenizer_lib
from dreamgen_jax.layers import patches, pixels
from dreamgen_jax.world_models.cosmos import dit
from dreamgen_jax.world_models.wan import vae

SOLVERS = ("adams_bashforth", "euler")
GIVEN_TAU = 1e-4 / (1 + 1e-4)  # of frames that are given, as trained
MASKS = 2  # channels beside the latent's: what is given, what is padding


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of the parts, the clip, and the noise.

  Attributes:
    transformer, vae, text: the parts.
    frames, height, width, video_hz: the clip; frames = 4 n + 1.
    given: fewest and most latent frames that are given in training; how many
      is drawn for each clip. A dream is given one, its first frame's.
    frame_dropout: probability that they are given as zeros, in training.
    loss_scale: factor of the loss.
    sigmas: least and greatest noise level of the sampler.
    solver: "adams_bashforth" (NVIDIA's: steps + 1 network calls) or "euler"
      (diffusers': steps - 1 calls, and the least noise stays in).
    steps, guidance: sampler defaults; with guidance g, the result is
      cond + g (cond - uncond), so that 0 is none.
    negative: prompt of the unguided branch, as released.
    reuse: steps of sampling that do without the blocks; off.
  """

  transformer: dit.Config
  vae: vae.VaeConfig
  text: t5.Config
  frames: int
  height: int
  width: int
  video_hz: float
  given: tuple[int, int] = (1, 2)
  frame_dropout: float = 0.2
  loss_scale: float = 10.0
  sigmas: tuple[float, float] = (0.002, 80.0)
  solver: str = "adams_bashforth"
  steps: int = 35
  guidance: float = 7.0
  negative: str = dataclasses.field(default="", metadata=interfaces.LATER)
  reuse: reuse_lib.Config = dataclasses.field(
      default=reuse_lib.Config(), metadata=interfaces.LATER)

  experts = ("transformer",)
  text_sees_frame = sees_last_frame = False
  sampling = ("solver", "sigmas", "reuse")

  def __post_init__(self):
    if self.solver not in SOLVERS:
      raise errors.ConfigError(
          f"solver is {self.solver!r}; have: {', '.join(SOLVERS)}.")
    least, most = self.given
    if not 1 <= least <= most < self.latent_shape[0]:
      raise errors.ConfigError(
          f"given is {self.given}; it must rise from 1 or more to fewer than "
          f"the clip's {self.latent_shape[0]} latent frames.")
    wanted = self.vae.z_dim + MASKS
    if self.transformer.in_channels != wanted:
      raise errors.ConfigError(
          f"The transformer's in_channels is {self.transformer.in_channels}; "
          f"latent and masks have {wanted} channels.")
    patches.check(
        self.latent_shape, self.transformer.patch, self.vae.space_factor)

  @property
  def latent_shape(self) -> tuple[int, int, int, int]:
    """(t, h, w, c) of one clip's latent."""
    return vae.latent_shape(self.vae, self.frames, self.height, self.width)


@dataclasses.dataclass(frozen=True)
class Model:
  """Implements interfaces.WorldModel; params: transformer, vae, text.

  Batch: latent f32[b,t,h,w,c]; condition f32[b,1,h,w,c], the first frame's;
  text f32[b,m,d].
  """

  config: Config

  def init(self, rng: types.Array) -> interfaces.Params:
    c = self.config
    keys = jax.random.split(rng, 3)
    batch = {name: jnp.zeros(leaf.shape, leaf.dtype)
             for name, leaf in self.example(1).items()}
    noisy, time = _tell(batch["latent"], jnp.zeros((1,)), batch["latent"],
                        _known(c.latent_shape[0], jnp.ones((1,))))
    ids = jnp.zeros((1, c.transformer.text_len), jnp.int32)
    return {
        "transformer": dit.Transformer(c.transformer).init(
            keys[0], noisy, time, batch["text"])["params"],
        "vae": vae.init(c.vae, keys[1]),
        "text": t5.Encoder(c.text).init(
            keys[2], ids, ids.astype(bool))["params"],
    }

  def example(self, batch_size: int) -> interfaces.Batch:
    c = self.config
    t, h, w, channels = c.latent_shape
    shapes = {
        "latent": (t, h, w, channels),
        "condition": (1, h, w, channels),
        "text": (c.transformer.text_len, c.transformer.text_dim),
    }
    return {name: jax.ShapeDtypeStruct((batch_size, *shape), jnp.float32)
            for name, shape in shapes.items()}

  # --- encoders --------------------------------------------------------------

  def tokenize(self, tokenizer: tokenizers.Tokenizer,
               prompts: Sequence[str]) -> interfaces.Batch:
    """Prompts -> ids i32[b,m] and mask bool[b,m], on the host."""
    ids, mask = tokenizer_lib.encode(
        tokenizer, prompts, self.config.transformer.text_len)
    return {"ids": ids, "mask": mask}

  def encode_video(self, params: interfaces.Params,
                   video: types.Array) -> types.Array:
    """u8[b,f,h,w,3] -> normalised latent f32[b,t,h,w,c] (the mean)."""
    c = self.config.vae
    unit = pixels.to_unit(video)
    moments = vae.encode(c, params["vae"], unit)
    return vae.normalise(c, vae.mode(moments)).astype(jnp.float32)

  def encode_frame(self, params: interfaces.Params,
                   frame: types.Array) -> interfaces.Batch:
    """First frame u8[b,h,w,3] -> condition f32[b,1,h,w,c]."""
    return {"condition": self.encode_video(params, frame[:, None])}

  def encode_text(self, params: interfaces.Params, tokens: interfaces.Batch,
                  frame: types.Array | None = None) -> interfaces.Batch:
    """`tokenize`'s leaves -> text f32[b,m,d], zero past each prompt's end."""
    del frame  # the prompt is read alone
    return {"text": t5.read(
        self.config.text, params["text"], tokens["ids"], tokens["mask"])}

  # --- training --------------------------------------------------------------

  def loss(self, params: interfaces.Params, rng: types.Array,
           batch: interfaces.Batch
           ) -> tuple[types.Array, dict[str, types.Array]]:
    """Squared error of the velocity, noise - data, over frames not given.

    EDM's weighted error of the data, ((1 + sigma) / sigma)^2 (data - x0)^2, is
    just that, since data - x0 is tau = sigma / (1 + sigma) times the
    velocity's error. The mean counts given frames as zeros, as the release
    does; "velocity_error" leaves them out.
    """
    c = self.config
    sigma_rng, noise_rng, given_rng, drop_rng = jax.random.split(rng, 4)
    size, frames = batch["latent"].shape[:2]
    sigma = edm.sample_sigma(sigma_rng, size, frames ** 0.5)
    count = jax.random.randint(given_rng, (size,), c.given[0], c.given[1] + 1)
    kept = jax.random.bernoulli(drop_rng, 1 - c.frame_dropout, (size,))
    error = self._errors(
        params, noise_rng, batch, edm.tau(sigma), count, kept)
    return c.loss_scale * jnp.mean(error), {
        "velocity_error": jnp.sum(error) / jnp.sum(frames - count)}

  def error_at(self, params: interfaces.Params, rng: types.Array,
               batch: interfaces.Batch, tau: types.Array) -> types.Array:
    """Squared error of the velocity, f32[b], at tau f32[b].

    As a dream goes: what is given is the condition, and nothing is dropped.
    """
    count = _count(batch)
    error = self._errors(params, rng, batch, tau, count, jnp.ones_like(count))
    return jnp.sum(error, axis=1) / (error.shape[1] - count)

  def guess(self, params: interfaces.Params, rng: types.Array,
            batch: interfaces.Batch, tau: types.Array) -> types.Array:
    """What a noisy clip is taken for, f32[b,t,h,w,c], at tau f32[b]."""
    count = _count(batch)
    _, noisy, known, clean, velocity = self._velocity_at(
        params, rng, batch, tau, count, jnp.ones_like(count))
    return jnp.where(known, clean, process.data(noisy, velocity, tau))

  def _errors(self, params, rng, batch, tau, count, kept):
    """Squared error of the velocity of each latent frame, f32[b,t].

    It is 0 where a frame is given, as the first count i32[b] are; a clip that
    is not `kept`, [b], is told zeros instead.
    """
    noise, _, known, _, velocity = self._velocity_at(
        params, rng, batch, tau, count, kept)
    error = (velocity - process.velocity(batch["latent"], noise)) ** 2
    return jnp.mean(jnp.where(known, 0.0, error), axis=(2, 3, 4))

  def _velocity_at(self, params, rng, batch, tau, count, kept):
    """(noise, noisy clips, which frames are given, what as, velocity)."""
    latent, first = batch["latent"], batch["condition"]
    noise = jax.random.normal(rng, latent.shape, latent.dtype)
    noisy = process.corrupt(latent, noise, tau)
    known = _known(latent.shape[1], count)
    clean = jnp.concatenate([first, latent[:, first.shape[1]:]], axis=1)
    clean = clean * kept[:, None, None, None, None]
    return noise, noisy, known, clean, self.velocity(
        params, noisy, tau, clean, known, batch["text"])

  def velocity(self, params: interfaces.Params, noisy: types.Array,
               tau: types.Array, clean: types.Array, known: types.Array,
               text: types.Array,
               memory: reuse_lib.Memory | None = None) -> types.Array:
    """The network's velocity f32[b,t,h,w,c] at tau f32[b].

    `clean` f32[b,t,h,w,c] is read where `known` bool[b,t,1,1,1] is True.
    """
    noisy, time = _tell(noisy, tau, clean, known)
    return dit.Transformer(self.config.transformer).apply(
        {"params": params["transformer"]}, noisy, time, text, memory)

  # --- dreaming --------------------------------------------------------------

  def generate(self, params: interfaces.Params, rng: types.Array,
               frame: types.Array, text: interfaces.Batch,
               empty_text: interfaces.Batch, *, steps: int | None = None,
               guidance: float | None = None,
               memory: reuse_lib.Memory | None = None) -> types.Array:
    """As `interfaces.WorldModel`; `memory` instead of one by the config."""
    noise = jax.vmap(
        lambda key: jax.random.normal(key, self.config.latent_shape))(rng)
    latent = self.denoise(
        params, noise, self.encode_frame(params, frame), text, empty_text,
        steps=steps, guidance=guidance, memory=memory)
    return self.decode(params, latent)

  def denoise(self, params, noise, given, text, empty_text, *, steps=None,
              guidance=None, memory=None) -> types.Array:
    """As `generate`, from unit noise and `encode_frame`'s leaves to the latent.

    The condition may have more than one latent frame: the clip goes on there.
    """
    c = self.config
    least, greatest = c.sigmas
    count = given["condition"].shape[1]
    rest = ((0, 0), (0, noise.shape[1] - count), (0, 0), (0, 0), (0, 0))
    told = {
        "clean": jnp.pad(given["condition"], rest),
        "known": _known(noise.shape[1], jnp.full(len(noise), count)),
    }

    def run(x, sigma, memory):
      def velocity(noisy, tau, batch):
        return self.velocity(
            params, noisy, jnp.full(len(noisy), tau), batch["clean"],
            batch["known"], batch["text"], memory)

      def denoise(x, sigma, batch):
        data = edm.precondition(velocity)(x, sigma, batch)
        return jnp.where(batch["known"], batch["clean"], data)

      guided = guide.classifier_free(
          denoise, c.guidance if guidance is None else guidance, base="cond")
      return guided(x, sigma, (told | text,), (told | empty_text,))

    steps, x = steps or c.steps, greatest * noise
    solver, calls = edm.adams_bashforth, steps + 1
    if c.solver == "euler":
      solver, calls = edm.euler, steps - 1
    if memory is None:
      memory = reuse_lib.planned(c.reuse, calls)
    levels = edm.karras_sigmas(max(steps, calls), least, greatest)
    return solver(reuse_lib.remember(run, x, memory), x, levels)

  def decode(self, params: interfaces.Params,
             latent: types.Array) -> types.Array:
    """Normalised latent f32[b,t,h,w,c] -> u8[b,f,h,w,3]."""
    c = self.config.vae
    video = vae.decode(c, params["vae"], vae.denormalise(c, latent))
    return pixels.from_unit(video)


def _count(batch):
  """How many latent frames are given, i32[b]."""
  size, count = batch["condition"].shape[:2]
  return jnp.full(size, count)


def _known(frames: int, count: types.Array) -> types.Array:
  """Which of `frames` latent frames are given, the first count i32[b].

  Returns bool[b,t,1,1,1].
  """
  known = jnp.arange(frames) < count[:, None]
  return known[:, :, None, None, None]


def _tell(noisy, tau, clean, known):
  """What the transformer reads, in training and in dreaming alike.

  Noise f32[b,t,h,w,c] at tau f32[b], with what is known put in its place ->
  f32[b,t,h,w,c + MASKS] and a time for each latent frame, f32[b,t].
  """
  mask = jnp.broadcast_to(known, (*noisy.shape[:-1], 1)).astype(noisy.dtype)
  padding = jnp.zeros_like(mask)  # every pixel of a clip is a picture's
  latent = jnp.where(known, clean.astype(noisy.dtype), noisy)
  time = jnp.where(known[:, :, 0, 0, 0], GIVEN_TAU, tau[:, None])
  return jnp.concatenate([latent, mask, padding], axis=-1), time
