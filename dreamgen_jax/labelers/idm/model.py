"""The inverse dynamics model of DreamGen (arXiv 2505.12705, section 2.3).

Two frames of a video -> the chunk of actions from the first one on, by flow
matching; it reads neither language nor state. The released preset loads the
checkpoints of NVIDIA's GR00T-Dreams; the same networks at nano size label the
tabletop at 64 pixels.

Reads a batch of images u8[b,2,v,h,w,3] (square), action f32[b,u,a] normalised
and zero padded, mask bool[b,u,a], embodiment i32[b] (row of its weights); and,
where it decodes states as well, those of both frames, state f32[b,2,s] and
state_mask bool[b,2].
"""

import dataclasses

import einops
import jax
import jax.numpy as jnp

from dreamgen_jax import errors, interfaces, types
from dreamgen_jax.encoders import siglip
from dreamgen_jax.labelers.idm import net
from dreamgen_jax.layers import action_head, camera, chunks


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes and recipe; the defaults are the release's.

  Attributes:
    action_dim, horizon: `a` (embodiments zero-pad to it) and `u`.
    views: cameras of a training batch; other numbers may be labelled.
    camera_size: side of the images in a batch.
    crop, shift, jitter, resizes: see `camera.Config`.
    vision_width, vision_depth, vision_heads, vision_mlp, patch: of the tower.
    spare: hold the parameters of the release that nothing reads: the tower's
      pooling head, and the scale and bias of its training loss.
    projector: how tokens are merged, a key of `net.HALVINGS`.
    width, heads, refine_depth, dit_depth, dropout, tokens, max_images,
      positions, embodiments: see `net.Config`.
    sample_steps: Euler steps per chunk.
    time_power, time_scale: training draws t = 1 - x / time_scale with x of
      Beta(time_power, 1), so that noisy chunks are seen more often.
    time_buckets: the networks read floor(time_buckets * t).
    draws: times and noises per encoded frame pair in training; more of them
      cost little beside the vision tower, and teach the small DiT faster.
    state_dim: `s`, width of the state that is decoded from each frame; 0, as
      released, for none.
    dtype: compute dtype.
    remat: of the vision tower, see `layers.stack.repeat`.
  """

  action_dim: int = 32
  horizon: int = 16
  views: int = 1
  camera_size: int = 256
  crop: float = 0.95
  shift: int = 0
  jitter: tuple[float, float, float, float] = (0.3, 0.4, 0.5, 0.08)
  resizes: tuple[int, ...] = (224, 256)
  vision_width: int = 1024
  vision_depth: int = 24
  vision_heads: int = 16
  vision_mlp: int = 4096
  patch: int = 16
  spare: bool = True
  projector: str = "mlp_doubledownsample"
  width: int = 1024
  heads: int = 16
  refine_depth: int = 4
  dit_depth: int = 8
  dropout: float = 0.2
  tokens: int = 112
  max_images: int = 6
  positions: int = 1024
  embodiments: int = 32
  sample_steps: int = 16
  time_power: float = 1.5
  time_scale: float = 0.999
  time_buckets: int = 1000
  draws: int = 1
  state_dim: int = dataclasses.field(default=0, metadata=interfaces.LATER)
  dtype: str = "float32"
  remat: str = "none"

  def __post_init__(self):
    for name in ("jitter", "resizes"):
      object.__setattr__(self, name, tuple(getattr(self, name)))
    for name in ("sample_steps", "views", "draws"):
      if getattr(self, name) < 1:
        raise errors.ConfigError(
            f"{name} = {getattr(self, name)} must be at least 1.")
    _ = self.net, self.images  # checked here, before data or devices

  @property
  def images(self) -> camera.Config:
    """The image path."""
    return camera.Config(self.resizes, self.crop, self.shift, self.jitter)

  @property
  def net(self) -> net.Config:
    """The networks."""
    vision = siglip.Config(
        self.vision_width, self.vision_depth, self.vision_heads,
        self.vision_mlp, self.patch, self.resizes[-1], self.spare, self.dtype,
        self.remat)
    shared = {
        field.name: getattr(self, field.name)
        for field in dataclasses.fields(net.Config)
        if field.name not in ("vision", "logit")
    }
    return net.Config(vision=vision, logit=self.spare, **shared)


PRESETS = {
    # The released labelers: 637,390,850 parameters, 1 to 3 views.
    "groot_dreams": Config(),
    # The tabletop at 64 pixels: absolute targets, so nothing moves the image.
    "nano": Config(
        action_dim=5,
        horizon=4,
        camera_size=64,
        crop=1.0,
        resizes=(64,),
        vision_width=128,
        vision_depth=4,
        vision_heads=4,
        vision_mlp=512,
        patch=8,
        spare=False,
        projector="mlp_downsample",
        width=128,
        heads=4,
        refine_depth=2,
        dit_depth=4,
        dropout=0.0,
        tokens=0,
        max_images=4,
        positions=32,
        embodiments=8,
        sample_steps=8,
        draws=8,
        remat="full",  # CPUs compute faster again than they write
    ),
}

RULES = [
    (r"(q|k|v|in|in_proj|in_\d|modulation|time_in)/kernel$",
     ("fsdp", "tensor")),
    (r"(o|out|out_\d|time_out)/kernel$", ("tensor", "fsdp")),
    (r"action_(encoder|decoder)/\w+/kernel$", ("fsdp", "tensor")),
    (r"(patch|vision_out)/kernel$", (None, "fsdp")),
    (r"positions$", (None, "fsdp")),
    (r".*", ()),
]


@dataclasses.dataclass(frozen=True)
class Model:
  """The labeler as `interfaces.Labeler`.

  Params {"encoder", "denoiser"}, and "state" where states are decoded.
  """

  config: Config

  def init(self, rng: types.Array) -> interfaces.Params:
    """Fresh float32 parameters."""
    c = self.config
    encoder_rng, denoiser_rng = jax.random.split(rng)
    size = c.resizes[-1]
    seen, eye = net.Eye(c.net).init_with_output(
        encoder_rng, jnp.zeros((1, c.views, size, size, 3)))
    context, rest = net.Context(c.net).init_with_output(
        encoder_rng, jnp.stack([seen, seen], axis=1))
    index = jnp.zeros(1, jnp.int32)
    denoiser = net.Denoiser(c.net).init(
        denoiser_rng, jnp.zeros((1, c.horizon, c.action_dim)), index, context,
        index)
    params = {"encoder": eye["params"] | rest["params"],
              "denoiser": denoiser["params"]}
    if c.state_dim:
      params["state"] = net.StateHead(c.net, c.state_dim).init(
          jax.random.fold_in(rng, 0), seen, index)["params"]
    return params

  def example(self, batch_size: int) -> interfaces.Batch:
    """Shapes and dtypes of a training batch."""
    c, b = self.config, batch_size
    chunk = (b, c.horizon, c.action_dim)
    leaves = {
        "images": ((b, 2, c.views, c.camera_size, c.camera_size, 3), jnp.uint8),
        "action": (chunk, jnp.float32),
        "mask": (chunk, jnp.bool_),
        "embodiment": ((b,), jnp.int32),
    }
    if c.state_dim:
      leaves |= {"state": ((b, 2, c.state_dim), jnp.float32),
                 "state_mask": ((b, 2), jnp.bool_)}
    return {
        name: jax.ShapeDtypeStruct(shape, dtype)
        for name, (shape, dtype) in leaves.items()
    }

  def loss(
      self, params: interfaces.Params, rng: types.Array,
      batch: interfaces.Batch,
  ) -> tuple[types.Array, dict[str, types.Array]]:
    """Mean squared error of the velocity over the mask, and of the states.

    Args:
      params: of `init`.
      rng: for augmentation, dropout, time and noise.
      batch: see the file's docstring.

    Returns:
      (scalar, {"flow": error of the velocity, "state": of normalised states}).
    """
    c = self.config
    image_rng, time_rng, noise_rng, dropout_rng = jax.random.split(rng, 4)
    pixels = camera.prepare(c.images, batch["images"], image_rng)
    # Released weights are wider than any robot.
    batch = {**batch, **{name: chunks.widen(batch[name], c.action_dim)
                         for name in ("action", "mask")}}
    b, *chunk = batch["action"].shape
    t = action_head.draw_times(
        time_rng, c.draws * b, c.time_power, c.time_scale)
    noise = jax.random.normal(noise_rng, (c.draws * b, *chunk))
    seen = self.look(params, pixels)
    flow = self.loss_at(params, seen, batch, noise, t, dropout_rng)
    if not c.state_dim:
      return flow, {"flow": flow}
    state = self.state_error(params, seen, batch)
    return flow + state, {"flow": flow, "state": state}

  def loss_at(
      self, params: interfaces.Params, seen: types.Array,
      batch: interfaces.Batch, noise: types.Array, t: types.Array,
      rng: types.Array | None = None,
  ) -> types.Array:
    """The velocity's error for given images, noise and times.

    As in the release t = 1 - tau: 0 is noise, 1 is data, and the networks
    predict data - noise.

    Args:
      params: of `init`.
      seen: of `look`, f32[b,2,v,l,d].
      batch: action, mask and embodiment.
      noise: f32[k*b,u,a], k draws behind each other.
      t: f32[k*b].
      rng: for dropout; None for none.
    """
    c, train = self.config, rng is not None
    rngs = {} if rng is None else dict(zip(
        ("encoder", "denoiser"), jax.random.split(rng), strict=True))

    def apply(name, module, *inputs):
      return module(c.net, train).apply(
          {"params": params[name]}, *inputs,
          rngs={"dropout": rngs[name]} if train else None)

    context = apply("encoder", net.Context, seen)
    context, action, mask, embodiment = (
        einops.repeat(leaf, "b ... -> (k b) ...", k=len(t) // len(leaf))
        for leaf in (context, batch["action"], batch["mask"],
                     batch["embodiment"]))
    return action_head.velocity_error(
        lambda noisy, step: apply(
            "denoiser", net.Denoiser, noisy, step, context, embodiment),
        action, mask, noise, t, c.time_buckets)

  def state_error(self, params: interfaces.Params, seen: types.Array,
                  batch: interfaces.Batch) -> types.Array:
    """Mean squared error of both frames' normalised states, where known."""
    found = jnp.stack([
        self.state(params, seen[:, i], batch["embodiment"])
        for i in range(seen.shape[1])], axis=1)  # b 2 s
    known = batch["state_mask"][..., None]
    error = jnp.where(known, jnp.square(found - batch["state"]), 0.0)
    return error.sum() / jnp.maximum(known.sum() * self.config.state_dim, 1)

  def see(self, params: interfaces.Params,
          images: types.Array) -> types.Array:
    """Frames in all views u8[b,v,h,w,3], square -> f32[b,v,l,d]."""
    pixels = camera.prepare(self.config.images, images)
    return self.look(params, pixels[:, None])[:, 0]

  def label(self, params: interfaces.Params, rng: types.Array,
            seen: types.Array, embodiment: types.Array,
            samples: int = 1) -> types.Array:
    """Pairs of seen frames -> samples of the chunk each.

    Args:
      params: of `init`.
      rng: one key, or one per pair [b]; a pair's noise then depends on its
        own key only, whatever the batch.
      seen: of `see`, f32[b,2,v,l,d].
      embodiment: i32[b], rows of the per-embodiment weights.
      samples: k.

    Returns:
      Normalised actions f32[k,b,u,a]; padded dimensions mean nothing.
    """
    c = self.config
    context = self.context(params, seen)
    keys = chunks.keys(rng, len(seen))

    def draw(index):
      return jax.vmap(lambda key: jax.random.normal(
          jax.random.fold_in(key, index), (c.horizon, c.action_dim)))(keys)

    return jax.lax.map(
        lambda index: self.denoise(params, draw(index), context, embodiment),
        jnp.arange(samples))

  def state(self, params: interfaces.Params, seen: types.Array,
            embodiment: types.Array) -> types.Array:
    """Seen frames f32[b,v,l,d] -> normalised states f32[b,s]."""
    return net.StateHead(self.config.net, self.config.state_dim).apply(
        {"params": params["state"]}, seen, embodiment)

  def look(self, params: interfaces.Params,
           pixels: types.Array) -> types.Array:
    """Prepared images f32[b,t,v,s,s,3] -> what is seen, f32[b,t,v,l,d]."""
    seen = net.Eye(self.config.net).apply(
        {"params": params["encoder"]},
        einops.rearrange(pixels, "b t ... -> (b t) ..."))
    return einops.rearrange(seen, "(b t) ... -> b t ...", t=pixels.shape[1])

  def context(self, params: interfaces.Params,
              seen: types.Array) -> types.Array:
    """Pairs of seen frames f32[b,2,v,l,d] -> context f32[b,l,d]."""
    return net.Context(self.config.net).apply(
        {"params": params["encoder"]}, seen)

  def denoise(self, params: interfaces.Params, noise: types.Array,
              context: types.Array, embodiment: types.Array) -> types.Array:
    """Euler steps from noise f32[b,u,a] to a chunk f32[b,u,a]."""
    c = self.config
    return action_head.euler(
        lambda x, step: self.velocity(params, x, step, context, embodiment),
        noise, c.sample_steps, c.time_buckets)

  def velocity(self, params: interfaces.Params, noisy: types.Array,
               step: types.Array, context: types.Array,
               embodiment: types.Array) -> types.Array:
    """Velocity f32[b,u,a] of noisy chunks at integer times i32[b]."""
    return net.Denoiser(self.config.net).apply(
        {"params": params["denoiser"]}, noisy, step, context, embodiment)
