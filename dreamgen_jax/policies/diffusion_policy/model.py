"""Diffusion Policy (Chi et al., arXiv 2303.04137), with optional language.

Images and state of the last `o` steps become the condition under which a 1-D
U-Net, or a transformer, denoises a chunk of `u` actions. As released, index 0
of the chunk is the FIRST observation step: a training chunk starts o - 1 steps
before now, and `act` cuts those steps off. Additions, off in the released
preset: a sentence vector, a flag that tells a missing state from a zero one,
padding before the random window, colour jitter.

Reads a batch of
  image/<camera> u8[b,o,h,w,3]; state f32[b,o,s] normalised; state_mask
  bool[b,o]; text f32[b,e] if config.text_dim; action f32[b,u,a] normalised to
  [-1, 1]; mask bool[b,u,a]; optional weight f32[b] or [b,u].
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax import errors, interfaces
from dreamgen_jax.diffusion import inpaint, process, sample
from dreamgen_jax.layers import augment, chunks
from dreamgen_jax.policies.diffusion_policy import guess as guesses
from dreamgen_jax.policies.diffusion_policy import transformer as transformers
from dreamgen_jax.policies.diffusion_policy import unet
from dreamgen_jax.policies.diffusion_policy import vision as vision_lib


@dataclasses.dataclass(frozen=True)
class Config:
  """What the policy sees, what it predicts, and how big it is.

  Attributes:
    action_dim, state_dim: widths `a` and `s`.
    cameras: names, in the order of their features; one encoder each.
    image_size: height and width of the images in a batch.
    n_obs_steps: `o`, observations that the policy sees.
    horizon: `u`, steps of a chunk, the n_obs_steps - 1 past ones included.
    text_dim: width of the sentence vector; 0 for no language.
    text_features: width of its projection in the condition.
    state_flag: the condition tells whether each state is known.
    state_dropout: share of training samples whose whole state is withheld.
    vision: the image encoder; `vision.film` lets language into its blocks.
    widths, step_width, kernel, groups, predict_scale: of the U-Net.
    diffusion_steps: T of the squared-cosine DDPM noise.
    sampler: "ddim" or "ddpm" (which always takes all T steps).
    inference_steps: network calls per chunk with "ddim".
    prediction: "epsilon" (noise) or "sample" (clean chunk).
    guess: width of a small network that guesses the clean chunk from the
      condition alone, for the other to correct ("sample" only); 0 has none.
      It learns within a few hundred steps what the U-Net takes thousands for.
    late: training draws the larger of this many uniform diffusion steps; more
      than 1 favours noise, where a predicted chunk depends on what is seen.
    pad, crop: pad the image by this many edge pixels, then take a random
      window of crop = (height, width); None keeps image_size. The window is
      central, and there is no padding, in `act`.
    jitter: strength of brightness, contrast and saturation in training.
    dtype: compute dtype.
    transformer: sizes of the network that is used in the U-Net's place; None
      is the U-Net.
  """

  action_dim: int = 10
  state_dim: int = 9
  cameras: Sequence[str] = ("front",)
  image_size: Sequence[int] = (84, 84)
  n_obs_steps: int = 2
  horizon: int = 16
  text_dim: int = 0
  text_features: int = 64
  state_flag: bool = False
  state_dropout: float = 0.0
  vision: vision_lib.Config = vision_lib.Config()
  widths: Sequence[int] = (512, 1024, 2048)
  step_width: int = 128
  kernel: int = 5
  groups: int = 8
  predict_scale: bool = True
  diffusion_steps: int = 100
  sampler: str = "ddpm"
  inference_steps: int = 16
  prediction: str = "epsilon"
  guess: int = 0
  late: int = 1
  pad: int = 0
  crop: Sequence[int] | None = (76, 76)
  jitter: float = 0.0
  dtype: str = "float32"
  transformer: transformers.Config | None = dataclasses.field(
      default=None, metadata=interfaces.LATER)

  def __post_init__(self):
    for name in ("cameras", "image_size", "widths", "crop"):
      value = getattr(self, name)
      object.__setattr__(self, name, None if value is None else tuple(value))
    factor = 2 ** (len(self.widths) - 1)
    if self.horizon % factor and not self.transformer:
      raise errors.ConfigError(
          f"horizon = {self.horizon} must be divisible by {factor}: the U-Net "
          f"halves it {len(self.widths) - 1} times.")
    if not 1 <= self.n_obs_steps <= self.horizon:
      raise errors.ConfigError(
          f"n_obs_steps = {self.n_obs_steps} must lie in [1, horizon = "
          f"{self.horizon}]: the chunk begins at the first observation.")
    if any(c > i for c, i in zip(self.window, self.image_size, strict=True)):
      raise errors.ConfigError(
          f"crop = {self.crop} does not fit into images of {self.image_size}.")
    if any(width % self.groups for width in self.widths):
      raise errors.ConfigError(
          f"widths = {self.widths} must be multiples of groups = {self.groups}."
      )
    if not 1 <= self.inference_steps <= self.diffusion_steps:
      raise errors.ConfigError(
          f"inference_steps = {self.inference_steps} must lie in [1, "
          f"diffusion_steps = {self.diffusion_steps}].")
    for name, allowed in (("sampler", ("ddim", "ddpm")),
                          ("prediction", ("epsilon", "sample"))):
      if getattr(self, name) not in allowed:
        raise errors.ConfigError(
            f"Unknown {name} {getattr(self, name)!r}; have: "
            f"{', '.join(allowed)}.")
    if self.guess and self.prediction != "sample":
      raise errors.ConfigError(
          'A guess is of the clean chunk: set prediction = "sample", or guess '
          "= 0.")
    for name in ("film", "query"):
      if getattr(self.vision, name) and not self.text_dim:
        raise errors.ConfigError(
            f"vision.{name} = True needs language: set text_dim to the width "
            "of the sentence vectors.")
    chunks.check_withheld(self)

  @property
  def window(self) -> tuple[int, int]:
    """Height and width of what the image encoder sees."""
    return self.crop or self.image_size


class Encoder(nn.Module):
  """Observation -> a token per step f32[b, o, e], sentence f32[b, e] or None.

  A token holds the cameras' features, the state and its flag.
  """

  config: Config

  @nn.compact
  def __call__(self, images: dict[str, jax.Array], state: jax.Array,
               state_mask: jax.Array, text: jax.Array | None
               ) -> tuple[jax.Array, jax.Array | None]:
    c = self.config
    if text is not None:
      text = nn.LayerNorm(name="text_norm")(text.astype(jnp.float32))
      text = jax.nn.mish(
          nn.Dense(c.text_features, name="text")(text))  # b text_features
    parts = []
    for camera in c.cameras:
      image = einops.rearrange(
          images[camera], "b o h w c -> (b o) h w c")
      each = None if text is None else einops.repeat(
          text, "b e -> (b o) e", o=c.n_obs_steps)
      feature = vision_lib.ImageEncoder(
          c.vision, c.dtype, name=f"camera_{camera}")(image, each)
      parts.append(einops.rearrange(
          feature, "(b o) e -> b o e", o=c.n_obs_steps))
    parts.append(jnp.where(state_mask[..., None], state, 0.0))
    if c.state_flag:
      parts.append(state_mask[..., None].astype(jnp.float32))
    return jnp.concatenate(parts, axis=-1), text


@dataclasses.dataclass(frozen=True)
class Model:
  """The policy as `interfaces.Policy`.

  Parameters: {"encoder", "unet"}, or {"encoder", "transformer"}, and "guess"
  if it has one.
  """

  config: Config
  inpaints: ClassVar = True

  def init(self, rng: jax.Array) -> interfaces.Params:
    """Fresh float32 parameters."""
    c = self.config
    encoder_rng, network_rng = jax.random.split(rng)
    guess_rng = jax.random.fold_in(rng, 0)
    batch = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self.example(1))
    images = {
        camera: jnp.zeros((1, c.n_obs_steps, *c.window, 3))
        for camera in c.cameras
    }
    seen, encoder = Encoder(c).init_with_output(
        encoder_rng, images, batch["state"], batch["state_mask"],
        batch.get("text"))
    condition = self._joined(*seen)
    network = self._network().init(
        network_rng, batch["action"], jnp.zeros(1), condition)
    params = {"encoder": encoder["params"], self._name: network["params"]}
    if c.guess:
      params["guess"] = self._guesser().init(guess_rng, condition)["params"]
    return params

  def example(self, batch_size: int) -> interfaces.Batch:
    """Shapes and dtypes of a training batch; `weight` may be added."""
    c = self.config
    words = {"text": ((c.text_dim,), jnp.float32)} if c.text_dim else {}
    return chunks.example(c, batch_size, **words)

  def read(self, language: Any, instructions: Sequence[str],
           state: np.ndarray) -> interfaces.Batch:
    """As `interfaces.Policy.read`: a sentence vector, if it has language."""
    del state
    if not self.config.text_dim:
      return {}
    return {"text": language.sentences(instructions)}

  def loss(
      self, params: interfaces.Params, rng: jax.Array, batch: interfaces.Batch
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean squared error of the prediction over unmasked action entries.

    That of the guess, if there is one, is added: of its own, or the network
    that sees noisy chunks would leave it nothing to learn from where they are
    hardly noisy.

    Args:
      params: of `init`.
      rng: for diffusion steps, noise, augmentation and state dropout.
      batch: see the module; `weight` scales a sample's share of the mean.

    Returns:
      (scalar, {"loss"}), and "guess" if there is one.
    """
    c = self.config
    rngs = dict(zip(
        ("augment", "dropout", "step", "noise"), jax.random.split(rng, 4),
        strict=True))
    chunks.check(c, batch)
    mask = batch["mask"]
    action = jnp.where(mask, batch["action"], 0.0)  # unknown may be NaN
    b = len(action)
    state_mask = chunks.withhold(
        rngs["dropout"], batch["state_mask"], c.state_dropout)
    condition = self._condition(
        params, self._training_images(rngs["augment"], batch), batch,
        state_mask)

    step = jnp.max(jax.random.randint(
        rngs["step"], (c.late, b), 0, c.diffusion_steps), axis=0)
    noise = jax.random.normal(rngs["noise"], action.shape)
    noisy = process.corrupt_ddpm(
        process.squared_cosine(c.diffusion_steps), action, noise, step)
    output = self._network(train=True).apply(
        {"params": params[self._name]}, noisy, step, condition,
        rngs={"dropout": jax.random.fold_in(rng, 0)})
    target = noise if c.prediction == "epsilon" else action

    def error(found):
      return chunks.mean(
          jnp.square(found - target), mask.astype(jnp.float32), batch)

    if not c.guess:
      loss = error(output)
      return loss, {"loss": loss}
    guess = self._guess(params, condition)
    loss = error(output + jax.lax.stop_gradient(guess))
    missed = error(guess)
    return loss + missed, {"loss": loss, "guess": missed}

  def act(self, params: interfaces.Params, rng: jax.Array,
          observation: interfaces.Batch) -> jax.Array:
    """Denoises a chunk under an observation.

    Args:
      params: of `init`.
      rng: one key, or one per sample [b]; a sample's noise then depends on
        its own key only, whatever the batch.
      observation: the batch without action, mask and weight, and perhaps
        `kept`, see `interfaces.Policy`.

    Returns:
      Normalised actions f32[b, u - (o - 1), a] from the current step on.
    """
    c = self.config
    b = len(observation["state"])
    keys = chunks.keys(rng, b)
    images = {
        camera: _to_unit(augment.center_window(
            observation[f"image/{camera}"], c.window)) * 2 - 1
        for camera in c.cameras
    }
    condition = self._condition(
        params, images, observation, observation["state_mask"])

    guess = self._guess(params, condition)
    alphas = process.squared_cosine(c.diffusion_steps)
    kept = chunks.kept(observation, c.n_obs_steps - 1, c.action_dim)

    def predict(noisy, step):
      found = self._network().apply(
          {"params": params[self._name]}, noisy, jnp.full(b, step), condition)
      found += guess
      if not kept:
        return found
      if c.prediction == "sample":
        return inpaint.sample(found, *kept)
      return inpaint.epsilon(found, noisy, jnp.asarray(alphas)[step], *kept)

    def draw(step):
      keys_now = jax.vmap(jax.random.fold_in, (0, None))(keys, step)
      shape = (c.horizon, c.action_dim)
      return jax.vmap(lambda key: jax.random.normal(key, shape))(
          keys_now)  # b u a

    start = draw(c.diffusion_steps)
    if c.sampler == "ddim":
      chunk = sample.ddim(predict, start, alphas, c.inference_steps,
                          target=c.prediction)
    else:
      chunk = sample.ddpm(predict, start, alphas, draw, target=c.prediction)
    return chunk[:, c.n_obs_steps - 1:]

  @property
  def _name(self) -> str:
    return "transformer" if self.config.transformer else "unet"

  def _network(self, train: bool = False) -> nn.Module:
    c = self.config
    if c.transformer:
      return transformers.Transformer(
          c.action_dim, c.transformer, c.dtype, train)
    return unet.ConditionalUnet1D(
        c.action_dim, c.widths, c.step_width, c.kernel, c.groups,
        c.predict_scale, c.dtype)

  def _guess(self, params, condition):
    if not self.config.guess:
      return 0.0
    return self._guesser().apply({"params": params["guess"]}, condition)

  def _guesser(self) -> nn.Module:
    c = self.config
    return guesses.Guess(c.guess, c.horizon, c.action_dim)

  def _condition(self, params, images, batch, state_mask):
    text = batch["text"] if self.config.text_dim else None
    return self._joined(*Encoder(self.config).apply(
        {"params": params["encoder"]}, images, batch["state"], state_mask,
        text))

  def _joined(self, steps, text):
    """What the network is told: tokens [b,o,e], or one vector [b,e]."""
    if self.config.transformer:
      if text is None:
        return steps
      text = einops.repeat(text, "b e -> b o e", o=self.config.n_obs_steps)
      return jnp.concatenate([steps, text], axis=-1)
    steps = einops.rearrange(steps, "b o e -> b (o e)")
    return steps if text is None else jnp.concatenate([steps, text], axis=-1)

  def _training_images(self, rng, batch):
    """Augmented images in [-1, 1] by camera."""
    c = self.config
    images = {}
    for i, camera in enumerate(c.cameras):
      window_rng, color_rng = jax.random.split(jax.random.fold_in(rng, i))
      image = batch[f"image/{camera}"]
      if c.pad or c.window != c.image_size:
        image = augment.random_window(window_rng, image, c.pad, c.window)
      image = _to_unit(image)
      if c.jitter:
        image = augment.color_jitter(color_rng, image, c.jitter)
      images[camera] = image * 2 - 1
    return images


def _to_unit(image: jax.Array) -> jax.Array:
  return image.astype(jnp.float32) / 255
