"""pi0 (arXiv 2410.24164) and pi0.5 (arXiv 2504.16054).

  images -> SigLIP -> linear  \\
  instruction -> word vectors  } prefix: expert 1, Gemma 2B
  state, noisy chunk, time     } suffix: expert 2, a smaller Gemma
  -> both attend together, block by block -> velocity of the chunk

The prefix sees itself alone, so its keys and values are computed once per
chunk; the suffix sees all. A camera that a sample lacks is masked, and then as
good as absent: no token attends to it, and it does not count as a position. So
robots with fewer cameras than the three that the releases saw just list those
they have: base, left wrist, right wrist, in this order.

The times are openpi's, which are ours: 1 is noise.

Reads a batch of
  image/<camera> u8[b,1,h,w,3]; state f32[b,1,s] normalised; state_mask
  bool[b,1], unknown states are zeros; tokens i32[b,m] and token_mask bool[b,m]
  of `read`; action f32[b,u,a] normalised; mask bool[b,u,a]; optional
  image_mask/<camera> bool[b] and weight f32[b] or f32[b,u].
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, reduce, repeat
from flax import linen as nn

from dreamgen_jax import errors, interfaces, types
from dreamgen_jax.diffusion import inpaint, process, sample
from dreamgen_jax.encoders import gemma, gemma_prompt, siglip
from dreamgen_jax.layers import augment, chunks, pixels
from dreamgen_jax.policies.pi0 import nets

_EXPERTS = ("language", "action")


@dataclasses.dataclass(frozen=True)
class Config:
  """What the policy sees, what it predicts, and how big it is.

  Attributes:
    vision, language, expert: sizes of the networks; an adaptive `expert` is
      that of pi0.5.
    action_dim, state_dim: widths `a` and `s` of the robot.
    cameras: names, in the order above.
    image_size: height and width of the images in a batch; where they are not
      the tower's, the images are fitted into it, with black bars.
    horizon: `u`, steps of a chunk.
    width: of the network's states and actions; the robot's end in zeros.
    vocabulary: number of tokens.
    text_length: `m`.
    state_in_words: the prompt tells the state, as pi0.5's does.
    state_flag: the last entry of the network's state tells whether it is
      known; the releases have no such flag.
    padding_loss: the loss counts the zeros past the robot's width, as
      released.
    normalize: how positions are scaled, see `types.Key`; None is each key's
      own way.
    steps: Euler steps of `act`.
    crop, turn: training crops this share of the image, turns it by at most so
      many degrees, and zooms back; not that of cameras called "wrist".
    jitter: strengths of brightness, contrast and saturation in training.
    draws: times and noises per encoded observation in training.
    state_dropout: share of training samples whose state is withheld.
    dtype: compute dtype of the experts; the towers have their own.
    remat: see `layers.stack.repeat`.
  """

  vision: siglip.Config
  language: gemma.Config
  expert: gemma.Config
  action_dim: int = 32
  state_dim: int = 32
  cameras: Sequence[str] = ("base", "left_wrist", "right_wrist")
  image_size: Sequence[int] = (224, 224)
  horizon: int = 50
  width: int = 32
  vocabulary: int = 257_152
  text_length: int = 48
  state_in_words: bool = False
  state_flag: bool = False
  padding_loss: bool = True
  normalize: str | None = "mean_std"
  steps: int = 10
  crop: float = 0.95
  turn: float = 5.0
  jitter: Sequence[float] = (0.3, 0.4, 0.5)
  dtype: str = "float32"
  remat: str = "none"
  draws: int = dataclasses.field(default=1, metadata=interfaces.LATER)
  state_dropout: float = dataclasses.field(
      default=0.0, metadata=interfaces.LATER)

  def __post_init__(self):
    for name in ("cameras", "image_size", "jitter"):
      object.__setattr__(self, name, tuple(getattr(self, name)))
    shared = [tuple(getattr(c, name) for name in (
        "depth", "heads", "kv_heads", "head_dim"))
        for c in (self.language, self.expert)]
    if shared[0] != shared[1]:
      raise errors.ConfigError(
          "The experts attend together, so depth, heads, kv_heads and head_dim "
          f"must be the same: {shared[0]} and {shared[1]} are not.")
    adaptive = self.expert.adaptive
    if self.language.adaptive or (
        self.state_flag if adaptive else self.state_in_words):
      raise errors.ConfigError(
          "state_in_words goes with an adaptive expert (pi0.5), state_flag "
          "with one that is not (pi0); the language expert never is.")
    room = self.width - self.state_flag
    if self.action_dim > self.width or self.state_dim > room:
      raise errors.ConfigError(
          f"width = {self.width} has no room for action_dim = "
          f"{self.action_dim} and state_dim = {self.state_dim}"
          + (" with a flag." if self.state_flag else "."))
    chunks.check_withheld(self)
    if not self.cameras or min(self.steps, self.horizon) < 1:
      raise errors.ConfigError(
          f"A policy needs a camera, and steps ({self.steps}) and horizon "
          f"({self.horizon}) of at least 1.")

  @property
  def n_obs_steps(self) -> int:
    """`o`: it sees the present only."""
    return 1


def pi05(config: Config) -> Config:
  """pi0's sizes as pi0.5's: adaptive norms, and the state told in words."""
  return dataclasses.replace(
      config, expert=dataclasses.replace(config.expert, adaptive=True),
      state_in_words=True, state_flag=False, state_dropout=0.0,
      text_length=200, normalize="q99")


@dataclasses.dataclass(frozen=True)
class Model:
  """The policy as `interfaces.Policy`.

  Parameters: {"images", "words", "experts", "suffix", "out"}.
  """

  config: Config
  inpaints: ClassVar = True

  def init(self, rng: jax.Array) -> interfaces.Params:
    """Fresh float32 parameters."""
    c = self.config
    rngs = jax.random.split(rng, 5)
    side = c.vision.image_size
    token, condition = (jnp.zeros((1, 1, c.expert.width)),
                        jnp.zeros((1, c.expert.width)))
    inputs = {
        "images": (jnp.zeros((1, side, side, 3)),),
        "words": (jnp.zeros((1, 1), jnp.int32),),
        "experts": ((jnp.zeros((1, 1, c.language.width)), token),
                    jnp.ones((1, 2, 2), bool), jnp.zeros((1, 2), jnp.int32),
                    (None, condition if c.expert.adaptive else None)),
        "suffix": (jnp.zeros((1, c.width)), jnp.zeros((1, 1, c.width)),
                   jnp.zeros(1)),
        "out": (token,),
    }
    return {name: self._nets[name].init(key, *given)["params"]
            for key, (name, given) in zip(rngs, inputs.items(), strict=True)}

  def example(self, batch_size: int) -> interfaces.Batch:
    """Shapes and dtypes of a training batch; masks of images may be added."""
    return gemma_prompt.example(self.config, batch_size)

  def read(self, language: Any, instructions: Sequence[str],
           state: np.ndarray) -> interfaces.Batch:
    """As `interfaces.Policy.read`, see `gemma_prompt.read`."""
    return gemma_prompt.read(
        self.config, language, instructions,
        state[:, -1] if self.config.state_in_words else None)

  def loss(
      self, params: interfaces.Params, rng: jax.Array, batch: interfaces.Batch
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean squared error of the velocity, over entries that are not masked.

    Args:
      params: of `init`.
      rng: for augmentation, times and noise.
      batch: see the module; `weight` scales a sample's, or a step's, share of
        the mean.

    Returns:
      (scalar, {"loss"}).
    """
    c = self.config
    chunks.check(c, batch)
    view_rng, time_rng, noise_rng, state_rng = jax.random.split(rng, 4)
    batch = batch | {"state_mask": chunks.withhold(
        state_rng, batch["state_mask"], c.state_dropout)}
    count = c.draws * len(batch["action"])
    error = self.error_at(
        params, batch,
        jax.random.normal(noise_rng, (count, c.horizon, c.width)),
        nets.beta_times(time_rng, count), view_rng)
    error = reduce(error, "(k b) u a -> b u a", "mean", k=c.draws)
    share = chunks.widen(
        batch["mask"].astype(jnp.float32), c.width, float(c.padding_loss))
    loss = chunks.mean(error, share, batch)
    return loss, {"loss": loss}

  def error_at(self, params: interfaces.Params, batch: interfaces.Batch,
               noise: types.Array, tau: types.Array,
               rng: jax.Array | None = None) -> types.Array:
    """Squared error f32[k*b,u,width] of the velocity.

    Args:
      params, batch: as of `loss`.
      noise: f32[k*b,u,width], k draws behind each other.
      tau: f32[k*b], 1 is noise.
      rng: changes views and colours of the images, when given.
    """
    c = self.config
    # What is not known may be NaN.
    action = chunks.widen(
        jnp.where(batch["mask"], batch["action"], 0.0), c.width)
    state = {name: batch[name] for name in ("state", "state_mask")}
    memory, seen = self._remember(params, batch, rng)
    k = len(tau) // len(action)
    action, state, seen = jax.tree.map(
        lambda leaf: repeat(leaf, "b ... -> (k b) ...", k=k),
        (action, state, seen))
    memory = jax.tree.map(
        lambda leaf: repeat(leaf, "n b ... -> n (k b) ...", k=k), memory)
    velocity = self._predict(
        params, state, process.corrupt(action, noise, tau), tau, memory, seen)
    return jnp.square(velocity - process.velocity(action, noise))

  def act(self, params: interfaces.Params, rng: jax.Array,
          observation: interfaces.Batch) -> jax.Array:
    """A chunk under an observation, from the current step on.

    Args:
      params: of `init`.
      rng: one key, or one per sample [b]; a sample's noise then depends on
        its own key only, whatever the batch.
      observation: the batch without action, mask and weight.

    Returns:
      Normalised actions f32[b,u,a].
    """
    c = self.config
    noise = chunks.noise(
        rng, len(observation["state"]), (c.horizon, c.width))
    return self.denoise(params, observation, noise)[..., :c.action_dim]

  def denoise(self, params: interfaces.Params, observation: interfaces.Batch,
              noise: types.Array) -> types.Array:
    """Noise f32[b,u,width] -> chunk of the same shape, by Euler steps."""
    c = self.config
    memory, seen = self._remember(params, observation)
    kept = chunks.kept(observation, 0, c.width)

    def predict(x, time):
      tau = jnp.full(len(x), time / process.TRAIN_STEPS)
      found = self._predict(params, observation, x, tau, memory, seen)
      if not kept:
        return found
      return inpaint.velocity(found, x, tau[:, None, None], *kept)

    return sample.euler(predict, noise, np.linspace(1, 0, c.steps + 1))

  @property
  def _nets(self) -> dict[str, nn.Module]:
    c = self.config
    return {
        "images": siglip.Images(c.vision, c.language.width),
        "words": gemma.Words(c.vocabulary, c.language.width, c.dtype),
        "experts": gemma.Experts(
            _EXPERTS, (c.language, c.expert), c.dtype, c.remat),
        "suffix": nets.Suffix(c.expert.width, c.expert.adaptive),
        "out": nn.Dense(c.width),
    }

  @property
  def _blocks(self) -> list[int]:
    return nets.suffix_blocks(self.config.horizon, self.config.expert.adaptive)

  def _run(self, params, name, *inputs, **settings):
    return self._nets[name].apply({"params": params[name]}, *inputs,
                                  **settings)

  def _remember(self, params, batch, rng=None):
    """(keys and values of the prefix, which of it counts bool[b,m])."""
    prefix, seen = self._prefix(params, batch, rng)
    _, memory = self._run(
        params, "experts", (prefix, None),
        gemma.block_mask(seen, [seen.shape[1]]), gemma.positions(seen),
        remember=True)
    return memory, seen

  def _predict(self, params, batch, noisy, tau, memory, seen):
    """Velocity f32[b,u,width] of a noisy chunk, see `_remember`."""
    suffix, condition = self._suffix(params, batch, noisy, tau)
    own = jnp.ones(suffix.shape[:2], bool)
    before = repeat(seen, "b m -> b l m", l=own.shape[1])
    (_, hidden), _ = self._run(
        params, "experts", (None, suffix),
        jnp.concatenate(
            [before, gemma.block_mask(own, self._blocks)], axis=2),
        gemma.positions(own) + jnp.sum(seen, axis=1, keepdims=True),
        (None, condition), memory)
    hidden = hidden[:, -self.config.horizon:].astype(jnp.float32)
    return self._run(params, "out", hidden)

  def _prefix(self, params, batch, rng=None):
    """(tokens [b,l,d] of images and words, which of them count bool[b,l])."""
    c = self.config
    self._check(batch)
    images = jnp.stack(self._images(batch, rng))  # v b h w 3
    tokens = rearrange(
        self._run(params, "images", rearrange(
            images, "v b h w c -> (v b) h w c")),
        "(v b) l d -> b (v l) d", v=len(images))
    here = jnp.stack([
        batch.get(f"image_mask/{camera}", jnp.ones(images.shape[1], bool))
        for camera in c.cameras], axis=1)  # b v
    seen = repeat(here, "b v -> b (v l)", l=c.vision.grid**2)
    words = self._run(params, "words", batch["tokens"])
    tokens = [x.astype(c.dtype) for x in (tokens, words)]
    return (jnp.concatenate(tokens, axis=1),
            jnp.concatenate([seen, batch["token_mask"]], axis=1))

  def _images(self, batch, rng):
    """f32[b,h,w,3] in [-1, 1] of each camera, of the tower's size."""
    c, side, images = self.config, self.config.vision.image_size, []
    for i, camera in enumerate(c.cameras):
      image = pixels.letter_box(
          pixels.to_unit(batch[f"image/{camera}"]), side, side)  # b 1 h w 3
      if rng is not None:
        view_rng, color_rng = jax.random.split(jax.random.fold_in(rng, i))
        if (c.crop < 1 or c.turn) and "wrist" not in camera:
          image = augment.random_view(view_rng, image, c.crop, c.turn)
        if any(c.jitter):
          image = augment.color_jitter(
              color_rng, (image + 1) / 2, c.jitter) * 2 - 1
      images.append(image[:, -1])
    return images

  def _suffix(self, params, batch, noisy, tau):
    """(tokens [b,l,d], condition [b,d] or None) of the action expert."""
    c = self.config
    state = chunks.state_now(batch, c.width)
    if c.state_flag:
      state = state.at[:, -1].set(batch["state_mask"][:, -1])
    return self._run(params, "suffix", state, noisy, tau)

  def _check(self, batch):
    """Raises DataError: an observation of another shape than expected."""
    for name, leaf in self.example(1).items():
      if name in ("action", "mask"):
        continue
      if name not in batch:
        raise errors.DataError(
            f"The observation has no {name}; this policy sees "
            f"{', '.join(self.config.cameras)}, a state and tokens.")
      if batch[name].shape[1:] != leaf.shape[1:]:
        raise errors.DataError(
            f"{name} has the shape {batch[name].shape[1:]}, and the policy was "
            f"made for {leaf.shape[1:]}.")
