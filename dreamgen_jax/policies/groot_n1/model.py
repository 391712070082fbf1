"""GR00T N1 (arXiv 2503.14734): a vision-language model and a flow head.

Camera images and the instruction go through Eagle 2 once; a DiT then turns
noise into a chunk of `u` actions, reading that context, the state, and weights
of the embodiment. The released preset loads NVIDIA's GR00T-N1-2B; the same
networks at nano size act on the tabletop at 64 pixels.

Reads a batch of
  image/<camera> u8[b,1,h,w,3], square; state f32[b,1,s] normalised; state_mask
  bool[b,1], unknown states are zeros; tokens i32[b,m] and token_mask bool[b,m]
  of `read`; embodiment i32[b], rows of the per-embodiment weights; action
  f32[b,u,a] normalised; mask bool[b,u,a]; optional weight f32[b] or f32[b,u].
DreamGen (arXiv 2505.12705) has neural trajectories as an embodiment of their
own: they then differ from the robot's recordings by that row alone.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import einops
import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax import errors, interfaces, types
from dreamgen_jax.diffusion import inpaint
from dreamgen_jax.layers import action_head, camera, chunks
from dreamgen_jax.policies.groot_n1 import backbone as backbone_lib
from dreamgen_jax.policies.groot_n1 import head as head_lib
from dreamgen_jax.policies.groot_n1 import prompt as prompt_lib


@dataclasses.dataclass(frozen=True)
class Config:
  """What the policy sees, what it predicts, and how big it is.

  Attributes:
    action_dim, state_dim: widths `a` and `s` of the robot; the head's are
      wider, and filled up with zeros.
    cameras: names, in the order in which a prompt shows them.
    image_size: height and width of the images in a batch.
    horizon: `u`, steps of a chunk, the first of which is now.
    crop, shift, jitter, resizes: see `camera.Config`.
    prompt, backbone, head: of the parts.
    sees_padding: whether the head reads the states of padding tokens too, as
      the release does; results then depend on the prompt's `room`.
    sample_steps: Euler steps per chunk; 4 are about as good as the release's
      16 (its authors' documentation).
    time_power, time_scale: training draws t = 1 - x / time_scale with x of
      Beta(time_power, 1), so that noisy chunks are seen more often.
    time_buckets: the networks read t * time_buckets, cut to an integer.
    draws: times and noises per encoded observation in training.
  """

  backbone: backbone_lib.Config
  head: head_lib.Config = head_lib.Config()
  prompt: prompt_lib.Config = prompt_lib.Config()
  action_dim: int = 32
  state_dim: int = 64
  cameras: Sequence[str] = ("ego_view",)
  image_size: Sequence[int] = (256, 256)
  horizon: int = 16
  crop: float = 0.95
  shift: int = 0
  jitter: tuple[float, float, float, float] = (0.3, 0.4, 0.5, 0.08)
  resizes: tuple[int, ...] = (224, 224)
  sees_padding: bool = True
  sample_steps: int = 16
  time_power: float = 1.5
  time_scale: float = 0.999
  time_buckets: int = 1000
  draws: int = 1

  def __post_init__(self):
    for name in ("cameras", "image_size", "jitter", "resizes"):
      object.__setattr__(self, name, tuple(getattr(self, name)))
    for name, width in (("action", self.head.action_width),
                        ("state", self.head.state_width)):
      if getattr(self, f"{name}_dim") > width:
        raise errors.ConfigError(
            f"The robot's {name} has {getattr(self, f'{name}_dim')} values, "
            f"the policy takes {width}; choose an embodiment with fewer, or, "
            f"for a policy from nothing, raise head.{name}_width.")
    if self.horizon > self.head.positions:
      raise errors.ConfigError(
          f"A chunk of {self.horizon} steps needs as many positions; there "
          f"are {self.head.positions}.")
    if self.images.resizes[-1] != self.backbone.vision.image_size:
      raise errors.ConfigError(
          f"Images are resized to {self.resizes[-1]} pixels, the vision tower "
          f"reads {self.backbone.vision.image_size}; make them equal.")
    if not self.cameras or min(self.sample_steps, self.draws) < 1:
      raise errors.ConfigError(
          "GR00T N1 needs a camera, and sample_steps and draws of at least 1; "
          f"got {self.cameras}, {self.sample_steps}, {self.draws}.")

  @property
  def images(self) -> camera.Config:
    """The image path."""
    return camera.Config(self.resizes, self.crop, self.shift, self.jitter)

  @property
  def n_obs_steps(self) -> int:
    """It sees the present alone."""
    return 1

  @property
  def embodiments(self) -> int:
    """Rows of the per-embodiment weights."""
    return self.head.embodiments

  @property
  def tokens(self) -> int:
    """Length `m` of a prompt."""
    return self.prompt.room + len(self.cameras) * self.backbone.image_tokens


@dataclasses.dataclass(frozen=True)
class Model:
  """The policy as `interfaces.Policy`; parameters {"backbone", "head"}."""

  config: Config
  inpaints: ClassVar = True

  def init(self, rng: types.Array) -> interfaces.Params:
    """Fresh float32 parameters."""
    c = self.config
    backbone_rng, head_rng = jax.random.split(rng)
    size, index = c.resizes[-1], jnp.zeros(1, jnp.int32)
    tokens = jnp.full((1, c.tokens), c.backbone.image_token)
    context, first = backbone_lib.Backbone(c.backbone).init_with_output(
        backbone_rng, jnp.zeros((1, len(c.cameras), size, size, 3)), tokens,
        jnp.ones_like(tokens, bool))
    second = head_lib.Head(c.head).init(
        head_rng, jnp.zeros((1, c.horizon, c.head.action_width)), index,
        jnp.zeros((1, c.head.state_width)), context, index)
    return {"backbone": first["params"], "head": second["params"]}

  def example(self, batch_size: int) -> interfaces.Batch:
    """Shapes and dtypes of a training batch."""
    prompt = (self.config.tokens,)
    return chunks.example(
        self.config, batch_size, tokens=(prompt, jnp.int32),
        token_mask=(prompt, jnp.bool_), embodiment=((), jnp.int32))

  def read(self, language: Any, instructions: Sequence[str],
           state: np.ndarray) -> interfaces.Batch:
    """As `interfaces.Policy.read`: a chat that shows the cameras' images."""
    del state
    c = self.config
    tokens, mask = prompt_lib.read(
        c.prompt, language.tokenizer, instructions, len(c.cameras),
        c.backbone.image_tokens, c.backbone.image_token,
        c.backbone.language.vocabulary)
    return {"tokens": tokens, "token_mask": mask}

  def loss(
      self, params: interfaces.Params, rng: types.Array,
      batch: interfaces.Batch,
  ) -> tuple[types.Array, dict[str, types.Array]]:
    """Mean squared error of the velocity over the mask.

    As in the release all entries of a batch weigh alike, so that samples with
    more action dimensions weigh more.

    Args:
      params: of `init`.
      rng: for augmentation, dropout, time and noise.
      batch: see the module.

    Returns:
      (scalar, {"flow": the same}).

    Raises:
      DataError: leaves are missing or of another width.
    """
    c, b = self.config, len(batch["action"])
    chunks.check(c, batch)
    image_rng, time_rng, noise_rng, dropout_rng = jax.random.split(rng, 4)
    pixels = camera.prepare(c.images, self._views(batch), image_rng)
    t = action_head.draw_times(
        time_rng, c.draws * b, c.time_power, c.time_scale)
    noise = jax.random.normal(
        noise_rng, (c.draws * b, c.horizon, c.head.action_width))
    loss = self.loss_at(params, pixels, batch, noise, t, dropout_rng)
    return loss, {"flow": loss}

  def loss_at(
      self, params: interfaces.Params, pixels: types.Array,
      batch: interfaces.Batch, noise: types.Array, t: types.Array,
      rng: types.Array | None = None,
  ) -> types.Array:
    """The loss for given images, noise and times.

    Args:
      params: of `init`.
      pixels: prepared images f32[b,v,s,s,3].
      batch: see the module.
      noise: f32[k*b,u,a'], k draws behind each other, a' the head's width.
      t: f32[k*b], 0 is noise and 1 is data.
      rng: for dropout; None for none.
    """
    c, train = self.config, rng is not None
    state = self._state(batch)
    action = jnp.where(batch["mask"], batch["action"], 0.0)  # may be NaN
    action, mask = (chunks.widen(leaf, c.head.action_width)
                    for leaf in (action, chunks.weighed(batch["mask"], batch)))
    context = self.encode(params, pixels, batch)
    context, seen, state, row, action, mask = (
        einops.repeat(leaf, "b ... -> (k b) ...", k=len(t) // len(leaf))
        for leaf in (context, batch["token_mask"], state,
                     batch["embodiment"], action, mask))

    def denoise(noisy, step):
      return head_lib.Head(c.head, train).apply(
          {"params": params["head"]}, noisy, step, state, context, row,
          None if c.sees_padding else seen,
          rngs={"dropout": rng} if train else None)

    return action_head.velocity_error(
        denoise, action, mask, noise, t, c.time_buckets)

  def act(self, params: interfaces.Params, rng: types.Array,
          observation: interfaces.Batch) -> types.Array:
    """Denoises a chunk under an observation.

    Args:
      params: of `init`.
      rng: one key, or one per sample [b]; a sample's noise then depends on
        its own key only, whatever the batch.
      observation: the batch without action and mask.

    Returns:
      Normalised actions f32[b,u,a] from the current step on.

    Raises:
      DataError: leaves are missing or of another width.
    """
    c = self.config
    views = self._views(observation)
    noise = chunks.noise(
        rng, len(views), (c.horizon, c.head.action_width))
    context = self.encode(
        params, camera.prepare(c.images, views), observation)
    chunk = self.denoise(params, noise, context, observation)
    return chunk[..., :c.action_dim]

  def encode(self, params: interfaces.Params, pixels: types.Array,
             batch: interfaces.Batch) -> types.Array:
    """Prepared images f32[b,v,s,s,3] and a batch's prompt -> [b,m,d]."""
    return backbone_lib.Backbone(self.config.backbone).apply(
        {"params": params["backbone"]}, pixels, batch["tokens"],
        batch["token_mask"])

  def denoise(self, params: interfaces.Params, noise: types.Array,
              context: types.Array, batch: interfaces.Batch) -> types.Array:
    """Euler steps from noise f32[b,u,a'] to a chunk f32[b,u,a']."""
    c = self.config
    state = self._state(batch)
    kept = chunks.kept(batch, 0, c.head.action_width)

    def denoise(noisy, step):
      found = head_lib.Head(c.head).apply(
          {"params": params["head"]}, noisy, step, state, context,
          batch["embodiment"],
          None if c.sees_padding else batch["token_mask"])
      if not kept:
        return found
      tau = 1 - step[:, None, None] / c.time_buckets  # here 1 is data
      return -inpaint.velocity(-found, noisy, tau, *kept)

    return action_head.euler(denoise, noise, c.sample_steps, c.time_buckets)

  def _views(self, batch):
    """u8[b,v,h,w,3]."""
    missing = [name for name in self.config.cameras
               if f"image/{name}" not in batch]
    if missing:
      there = sorted(name.removeprefix("image/") for name in batch
                     if name.startswith("image/"))
      raise errors.DataError(
          f"The policy sees the cameras {', '.join(self.config.cameras)}; "
          f"{', '.join(missing)} is not among those of the observation: "
          f"{', '.join(there) or 'none'}.")
    return jnp.stack([batch[f"image/{name}"][:, -1]
                      for name in self.config.cameras], axis=1)

  def _state(self, batch):
    """f32[b,s'], zero where unknown, of the head's width."""
    c = self.config
    for name, width in (("state", c.state_dim), ("action", c.action_dim)):
      if name in batch and batch[name].shape[-1] != width:
        raise errors.DataError(
            f"The batch's {name} has {batch[name].shape[-1]} values; this "
            f"policy was built for {width}.")
    return chunks.state_now(batch, c.head.state_width)
