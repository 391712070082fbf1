"""Wan behind the world model contract: encode, loss, generate.

Source: arXiv 2503.20314 and the released Wan 2.1 and 2.2 code. A clip is told
its first frame in one of two ways (`condition.py`): by channels beside the
noise (Wan 2.1, to which it also shows the frame's CLIP states, and the two
experts of Wan 2.2 A14B), or by the frame's latent in place of noise (Wan 2.2
TI2V-5B). By channels, it can be told its last frame as well (Wan 2.1 FLF2V).
Text to video has neither.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from dreamgen_jax import errors, interfaces, types
from dreamgen_jax.diffusion import guide, process, sample
from dreamgen_jax.diffusion import reuse as reuse_lib
from dreamgen_jax.encoders import clip, t5
from dreamgen_jax.encoders import tokenizer as tokenizer_lib
from dreamgen_jax.layers import patches, pixels
from dreamgen_jax.world_models.wan import condition, dit, vae

SOLVERS = {"unipc": sample.unipc, "dpm": sample.dpm_solver,
           "euler": sample.euler}
GIVEN = ("channels", "both_ends", "replace", "none")
HIGH, LOW = "transformer", "transformer_2"  # noise; as the folders are named


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes of the parts, the clip, and the flow.

  Attributes:
    transformer, vae, text: the parts.
    frames, height, width, video_hz: the clip; frames = 4 n + 1.
    train_shift, sample_shift: flow-matching shift of training and sampling.
    solver: "unipc" (as released), "dpm", or "euler", which with guidance 1 and
      4 steps is the schedule of the step-distilled adapters.
    steps, guidance: sampler defaults (Wan I2V: 40 steps, 5.0).
    low_guidance: of the second expert, if another than `guidance`.
    weighted: use the training-time weighting of the released recipe.
    image: the tower of the transformer's image branch, where it has one.
    given: how the first frame is told: "channels", "both_ends" (so too, and
      the last frame), "replace" or "none".
    boundary: time (tau) from which the second expert takes over towards data;
      None has one expert.
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
  train_shift: float = 5.0
  sample_shift: float = 3.0
  solver: str = "unipc"
  steps: int = 40
  guidance: float = 5.0
  weighted: bool = True
  image: clip.Config | None = None
  given: str = "channels"
  boundary: float | None = None
  low_guidance: float | None = None
  negative: str = dataclasses.field(default="", metadata=interfaces.LATER)
  reuse: reuse_lib.Config = dataclasses.field(
      default=reuse_lib.Config(), metadata=interfaces.LATER)

  def __post_init__(self):
    width = self.image.width if self.image else None
    if width != self.transformer.image_dim:
      raise errors.ConfigError(
          f"The image tower's width is {width}, but the transformer's "
          f"image_dim is {self.transformer.image_dim}; they must be equal.")
    for field, known in (("solver", tuple(SOLVERS)), ("given", GIVEN)):
      if getattr(self, field) not in known:
        raise errors.ConfigError(
            f"{field} is {getattr(self, field)!r}; have: {', '.join(known)}.")
    patches.check(
        self.latent_shape, self.transformer.patch, self.vae.space_factor)

  @property
  def latent_shape(self) -> tuple[int, int, int, int]:
    """(t, h, w, c) of one clip's latent."""
    return vae.latent_shape(self.vae, self.frames, self.height, self.width)

  @property
  def experts(self) -> tuple[str, ...]:
    """Names of the transformers, for much noise first."""
    return (HIGH,) if self.boundary is None else (HIGH, LOW)

  @property
  def sees_last_frame(self) -> bool:
    """Whether a clip is told its last frame too."""
    return self.given == "both_ends"

  text_sees_frame = False
  sampling = ("solver", "sample_shift", "low_guidance", "reuse")


@dataclasses.dataclass(frozen=True)
class Model:
  """Implements interfaces.WorldModel.

  Parameters: vae, text, the transformers that config.experts names, and
  image where the config has an image tower. Batch: latent f32[b,t,h,w,c];
  condition, of the same shape (by channels) or f32[b,1,h,w,c] ("replace");
  text f32[b,m,d]; image f32[b,i,d], the CLIP states of the frames given.
  """

  config: Config

  def init(self, rng: types.Array) -> interfaces.Params:
    c = self.config
    keys = jax.random.split(rng, 3)
    batch = {name: jnp.zeros(leaf.shape, leaf.dtype)
             for name, leaf in self.example(1).items()}
    params = {
        "vae": vae.init(c.vae, keys[1]),
        "text": t5.Encoder(c.text).init(
            keys[2], jnp.zeros((1, c.transformer.text_len), jnp.int32),
            jnp.ones((1, c.transformer.text_len), bool))["params"],
    }
    for i, expert in enumerate(c.experts):
      noisy, time = self._tell(batch["latent"], jnp.zeros((1,)), batch)
      params[expert] = dit.Transformer(c.transformer).init(
          keys[0] if i == 0 else jax.random.fold_in(rng, 4), noisy, time,
          batch["text"], batch.get("image"))["params"]
    if c.image:
      size = c.image.image_size
      params["image"] = clip.Tower(c.image).init(
          jax.random.fold_in(rng, 3), jnp.zeros((1, size, size, 3)))["params"]
    return params

  def example(self, batch_size: int) -> interfaces.Batch:
    c = self.config
    t, h, w, channels = c.latent_shape
    shapes = {
        "latent": (t, h, w, channels),
        "text": (c.transformer.text_len, c.transformer.text_dim),
    }
    if c.given != "none":
      frames = 1 if c.given == "replace" else t
      shapes["condition"] = (frames, h, w, channels)
    if c.image:
      shapes["image"] = (
          (1 + c.sees_last_frame) * c.image.tokens, c.image.width)
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
    return self._encode(params, pixels.to_unit(video))

  def encode_frame(self, params: interfaces.Params, frame: types.Array,
                   last: types.Array | None = None) -> interfaces.Batch:
    """First frame, and last where it is told, u8[b,h,w,3] -> their leaves.

    Raises:
      DataError: no last frame where it is told, or one where it is not.
    """
    c = self.config
    if (last is not None) != c.sees_last_frame:
      raise errors.DataError(
          f"This world model is told {'its' if c.sees_last_frame else 'no'} "
          f"last frame, and was given {'none' if last is None else 'one'}.")
    ends = [pixels.to_unit(end) for end in (frame, last) if end is not None]
    leaves = {}
    if c.given != "none":
      frames = 1 if c.given == "replace" else c.frames
      leaves["condition"] = self._encode(params, condition.clip(frames, *ends))
    if c.image:
      tokens = [clip.Tower(c.image).apply(
          {"params": params["image"]},
          clip.prepare(end, c.image.image_size))[0] for end in ends]
      leaves["image"] = jnp.concatenate(tokens, axis=1).astype(jnp.float32)
    return leaves

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
    """Weighted squared error of the velocity, noise - data.

    With one of two experts in `params`, times are drawn from its range; with
    both, each batch goes to one of them, as often as its range comes up.
    """
    c = self.config
    tau_rng, noise_rng = jax.random.split(rng)
    latent = batch["latent"]
    tau = process.sample_tau(tau_rng, len(latent), shift=c.train_shift)
    if c.boundary is not None:
      tau = self._expert_tau(params, tau_rng, tau)
    error = self.error_at(params, noise_rng, batch, tau)
    weight = process.weight(tau, shift=c.train_shift) if c.weighted else 1.0
    return jnp.mean(weight * error), {"velocity_error": jnp.mean(error)}

  def error_at(self, params: interfaces.Params, rng: types.Array,
               batch: interfaces.Batch, tau: types.Array) -> types.Array:
    """Squared error of the velocity, f32[b], at tau f32[b].

    Two experts take turns by tau[0], so all tau are in one's range.
    """
    noise, _, velocity = self._velocity_at(params, rng, batch, tau)
    error = (velocity - process.velocity(batch["latent"], noise)) ** 2
    if self.config.given == "replace":
      error = error[:, 1:]  # the first frame was never noisy
    return jnp.mean(error, axis=(1, 2, 3, 4))

  def guess(self, params: interfaces.Params, rng: types.Array,
            batch: interfaces.Batch, tau: types.Array) -> types.Array:
    """What a noisy clip is taken for, f32[b,t,h,w,c], at tau f32[b]."""
    _, noisy, velocity = self._velocity_at(params, rng, batch, tau)
    latent = process.data(noisy, velocity, tau)
    if self.config.given == "replace":
      latent = latent.at[:, :1].set(batch["condition"])
    return latent

  def _velocity_at(self, params, rng, batch, tau):
    """(noise, noisy clips, their velocity), each f32[b,t,h,w,c]."""
    latent = batch["latent"]
    noise = jax.random.normal(rng, latent.shape, latent.dtype)
    noisy = process.corrupt(latent, noise, tau)
    return noise, noisy, self._choose(
        params, tau[0], lambda expert: self.velocity(
            params[expert], noisy, tau, batch))

  def _expert_tau(self, params, rng, tau):
    """Times of one expert's range alone, f32[b]; `rng` picks the expert."""
    c = self.config
    share = process.unshift(c.boundary, c.train_shift)  # before the shift
    if HIGH in params and LOW in params:
      high = jax.random.uniform(jax.random.fold_in(rng, 1)) > share
    else:
      high = HIGH in params
    tau = process.unshift(tau, c.train_shift)
    tau = jnp.where(high, share + tau * (1 - share), tau * share)
    return process.shift(tau, c.train_shift)

  def velocity(self, transformer: interfaces.Params, noisy: types.Array,
               tau: types.Array, batch: interfaces.Batch,
               memory: reuse_lib.Memory | None = None) -> types.Array:
    """One expert's velocity f32[b,t,h,w,c] at tau f32[b]."""
    noisy, time = self._tell(noisy, tau, batch)
    return dit.Transformer(self.config.transformer).apply(
        {"params": transformer}, noisy, time, batch["text"],
        batch.get("image"), memory)

  def _choose(self, params, tau, run):
    """run(name of the expert) for the one in charge of the number tau."""
    present = [name for name in self.config.experts if name in params]
    if len(present) == 1:
      return run(present[0])
    return jax.lax.cond(tau >= self.config.boundary, lambda: run(HIGH),
                        lambda: run(LOW))

  def _tell(self, noisy, tau, batch):
    """Noise that knows the first frame, and times of f32[b] or f32[b,t]."""
    c, time = self.config, 1000.0 * tau  # the released network counts to 1000
    if c.given == "none":
      return noisy, time
    if c.given == "replace":
      return condition.replace(noisy, time, batch["condition"])
    return condition.join(noisy, batch["condition"], c.vae.time_factor,
                          c.sees_last_frame), time

  # --- dreaming --------------------------------------------------------------

  def generate(self, params: interfaces.Params, rng: types.Array,
               frame: types.Array, text: interfaces.Batch,
               empty_text: interfaces.Batch, *, steps: int | None = None,
               guidance: float | None = None,
               last: types.Array | None = None,
               memory: reuse_lib.Memory | None = None) -> types.Array:
    """As `interfaces.WorldModel`; from the first frame to `last`, if told it.

    `memory` is a new one, instead of one by the config.
    """
    noise = jax.vmap(
        lambda key: jax.random.normal(key, self.config.latent_shape))(rng)
    latent = self.denoise(
        params, noise, self.encode_frame(params, frame, last), text,
        empty_text, steps=steps, guidance=guidance, memory=memory)
    return self.decode(params, latent)

  def denoise(self, params, noise, given, text, empty_text, *, steps=None,
              guidance=None, memory=None) -> types.Array:
    """As `generate`, from noise and `encode_frame`'s leaves to the latent.

    """
    c = self.config
    sigmas = self._sigmas(steps or c.steps)
    if memory is None:
      memory = reuse_lib.planned(
          c.reuse, len(sigmas) - 1, self._handovers(sigmas))
    scales = {HIGH: c.guidance, LOW: c.low_guidance or c.guidance}
    cond, uncond = {**given, **text}, {**given, **empty_text}

    def predict(noisy, time, memory):
      tau = time / 1000.0

      def run(expert):
        def velocity(noisy, tau, batch):
          return self.velocity(
              params[expert], noisy, jnp.full(noisy.shape[:1], tau), batch,
              memory)
        scale = scales[expert] if guidance is None else guidance
        return guide.classifier_free(velocity, scale)(
            noisy, tau, (cond,), (uncond,))

      return self._choose(params, tau, run)

    latent = SOLVERS[c.solver](
        reuse_lib.remember(predict, noise, memory), noise, sigmas)
    if c.given == "replace":
      latent = latent.at[:, :1].set(given["condition"])
    return latent

  def _sigmas(self, steps):
    c = self.config
    if c.solver == "euler":
      return sample.shifted_sigmas(
          np.arange(steps, 0, -1) / steps, c.sample_shift)
    return sample.wan_sigmas(
        steps, c.sample_shift, f"{c.solver}_diffusers")

  def _handovers(self, sigmas):
    """Calls at which the second expert may be the first time in charge."""
    if self.config.boundary is None:
      return ()
    # Some samplers round times down.
    return {int(np.sum(times >= self.config.boundary))
            for times in (sigmas, np.floor(1000 * sigmas) / 1000)}

  def decode(self, params: interfaces.Params,
             latent: types.Array) -> types.Array:
    """Normalised latent f32[b,t,h,w,c] -> u8[b,f,h,w,3]."""
    c = self.config.vae
    video = vae.decode(c, params["vae"], vae.denormalise(c, latent))
    return pixels.from_unit(video)

  def _encode(self, params, video):
    c = self.config.vae
    moments = vae.encode(c, params["vae"], video)
    return vae.normalise(c, vae.mode(moments)).astype(jnp.float32)
