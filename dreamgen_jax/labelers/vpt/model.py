"""An inverse dynamics model over whole clips, in the manner of VPT.

VPT (arXiv 2206.11795, section 4.1) labels with a transformer that is not
causal: for an action it sees what came before and what came after. So does
this one; it is ours, there are no released weights to load. A clip reaches from
a window's first frame to one `gap_seconds` later, with every frame between, and
a chunk covers the clip: `gap_seconds` and `horizon` go together. In the middle
of a chunk both sides are seen best: `weights="gaussian"` trusts it most.

Actions are decoded as normal distributions, whose samples are the labels.

Reads a batch of images u8[b,f,v,h,w,3] (square), action f32[b,u,a] normalised,
mask bool[b,u,a], embodiment i32[b] (row of its weights).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange

from dreamgen_jax import interfaces, types
from dreamgen_jax.encoders import siglip
from dreamgen_jax.labelers.vpt import net
from dreamgen_jax.layers import camera, chunks


@dataclasses.dataclass(frozen=True)
class Config:
  """Sizes and recipe.

  Attributes:
    action_dim, horizon, views, frames: `a`, `u`, `v` and `f`.
    camera_size: side of the images in a batch.
    crop, shift, jitter, resizes: see `camera.Config`.
    vision_width, vision_depth, vision_heads, vision_mlp, patch: of the tower.
    width, heads, depth, dropout, embodiments: see `net.Config`.
    balance: how far the likelihood's preference for steps that are certain is
      taken back: 0 not at all, 1 as in a squared error (Seitzer et al., 2022).
    dtype: compute dtype.
    remat: of the vision tower, see `layers.stack.repeat`.
  """

  action_dim: int = 32
  horizon: int = 16
  views: int = 1
  frames: int = 17
  camera_size: int = 256
  crop: float = 0.95
  shift: int = 0
  jitter: tuple[float, float, float, float] = (0.3, 0.4, 0.5, 0.08)
  resizes: tuple[int, ...] = (224,)
  vision_width: int = 768
  vision_depth: int = 12
  vision_heads: int = 12
  vision_mlp: int = 3072
  patch: int = 16
  width: int = 1024
  heads: int = 16
  depth: int = 4
  dropout: float = 0.1
  embodiments: int = 32
  balance: float = 0.5
  dtype: str = "float32"
  remat: str = "none"

  def __post_init__(self):
    for name in ("jitter", "resizes"):
      object.__setattr__(self, name, tuple(getattr(self, name)))
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
        self.vision_mlp, self.patch, self.resizes[-1], False, self.dtype,
        self.remat)
    return net.Config(vision=vision, **{
        field.name: getattr(self, field.name)
        for field in dataclasses.fields(net.Config) if field.name != "vision"})


PRESETS = {
    "base": Config(),
    # The tabletop at 64 pixels: absolute targets, so nothing moves the image.
    "nano": Config(
        action_dim=5, horizon=5, frames=5, camera_size=64, crop=1.0,
        resizes=(64,), vision_width=64, vision_depth=3, vision_heads=2,
        vision_mlp=256, patch=8, width=128, heads=4, depth=3, dropout=0.0,
        embodiments=8, remat="full"),
}

RULES = [
    (r"(q|k|v|in)/kernel$", ("fsdp", "tensor")),
    (r"(o|out)/kernel$", ("tensor", "fsdp")),
    (r"(vision_out|patch|narrow)/kernel$", ("fsdp", None)),
    (r".*", ()),
]


@dataclasses.dataclass(frozen=True)
class Model:
  """The labeler as `interfaces.Labeler`; params {"eye", "clip"}."""

  config: Config

  def init(self, rng: types.Array) -> interfaces.Params:
    """Fresh float32 parameters."""
    c = self.config
    eye_rng, clip_rng = jax.random.split(rng)
    size = c.resizes[-1]
    seen, eye = net.Eye(c.net).init_with_output(
        eye_rng, jnp.zeros((1, c.views, size, size, 3)))
    clip = net.Clip(c.net).init(
        clip_rng, jnp.stack([seen] * c.frames, axis=1),
        jnp.zeros(1, jnp.int32))
    return {"eye": eye["params"], "clip": clip["params"]}

  def example(self, batch_size: int) -> interfaces.Batch:
    """Shapes and dtypes of a training batch."""
    c, b = self.config, batch_size
    chunk = (b, c.horizon, c.action_dim)
    leaves = {
        "images": ((b, c.frames, c.views, c.camera_size, c.camera_size, 3),
                   jnp.uint8),
        "action": (chunk, jnp.float32),
        "mask": (chunk, jnp.bool_),
        "embodiment": ((b,), jnp.int32),
    }
    return {name: jax.ShapeDtypeStruct(shape, dtype)
            for name, (shape, dtype) in leaves.items()}

  def loss(
      self, params: interfaces.Params, rng: types.Array,
      batch: interfaces.Batch,
  ) -> tuple[types.Array, dict[str, types.Array]]:
    """Negative log likelihood of the actions, balanced, over the mask.

    Returns:
      (scalar, {"error": squared error of the mean, "deviation": mean of it}).
    """
    c = self.config
    image_rng, dropout_rng = jax.random.split(rng)
    pixels = camera.prepare(c.images, batch["images"], image_rng)
    decoded: Any = net.Clip(c.net, True).apply(
        {"params": params["clip"]}, self._look(params, pixels),
        batch["embodiment"], rngs={"dropout": dropout_rng})
    mean, deviation = decoded
    share = batch["mask"].astype(jnp.float32)
    error = jnp.square(mean - batch["action"])
    likelihood = 0.5 * error / deviation ** 2 + jnp.log(deviation)
    weight = jax.lax.stop_gradient(deviation) ** (2 * c.balance)
    loss = chunks.mean(weight * likelihood, share, batch)
    return loss, {"error": chunks.mean(error, share, batch),
                  "deviation": chunks.mean(deviation, share, batch)}

  def see(self, params: interfaces.Params,
          images: types.Array) -> types.Array:
    """Frames in all views u8[b,v,h,w,3], square -> f32[b,d]."""
    pixels = camera.prepare(self.config.images, images)
    return self._look(params, pixels[:, None])[:, 0]

  def label(self, params: interfaces.Params, rng: types.Array,
            seen: types.Array, embodiment: types.Array,
            samples: int = 1) -> types.Array:
    """Clips of seen frames -> samples of the chunk each.

    Args:
      params: of `init`.
      rng: one key, or one per clip [b].
      seen: of `see`, f32[b,f,d].
      embodiment: i32[b], rows of the per-embodiment weights.
      samples: k.

    Returns:
      Normalised actions f32[k,b,u,a].
    """
    mean, deviation = net.Clip(self.config.net).apply(
        {"params": params["clip"]}, seen, embodiment)
    noise = chunks.noise(rng, len(seen), (samples, *mean.shape[1:]))
    noise = rearrange(noise, "b k u a -> k b u a")
    return mean + deviation * noise

  def _look(self, params, pixels):
    """f32[b,f,v,s,s,3] -> f32[b,f,d]."""
    seen = net.Eye(self.config.net).apply(
        {"params": params["eye"]},
        rearrange(pixels, "b f v h w c -> (b f) v h w c"))
    return rearrange(seen, "(b f) d -> b f d", f=pixels.shape[1])
