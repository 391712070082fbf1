"""LAPA's latent action quantisation as a labeler (arXiv 2410.11758).

Two frames a second apart -> a latent action: a few vectors from which, and
from the first frame, the second is predicted. It learns from video alone, of
any robots and people. DreamGen (arXiv 2505.12705, section 2.3) gives its
neural trajectories the latents as they are before the look-up in the codebook.

Reads a batch of images u8[b,2,1,h,w,3]. Parameters are {"positions",
"encoder", "codebook" f32[c,e], "decoder"}.
"""

import dataclasses

import jax
import jax.numpy as jnp
from einops import repeat

from dreamgen_jax import errors, interfaces, types
from dreamgen_jax.labelers.lapa import codebook, net


@dataclasses.dataclass(frozen=True)
class Config(net.Config):
  """Sizes and recipe; the defaults are LAPA's. See also `net.Config`.

  Attributes:
    codes: entries of the codebook.
    looks: ((period, end), ...): while fewer than `end` steps are done, dead
      codes are looked for after every `period` steps; the first pair holds
      that is not over. Empty: never.
    dead_below: codes are dead that came up in fewer batches than this since
      the last look. The release divides by its batch size where it means the
      number of batches: 0.1 times 64, whatever the period.
    twin_noise: how far from a living code a dead one is put. The release's is
      nothing in float32: twins part by what momentum the optimiser has left.
    as_codes: labels are the codes' numbers, spread over [-1, 1], as LAPA's own
      policy predicts them as tokens; not the latents before the look-up.
  """

  codes: int = 8
  looks: tuple[tuple[int, int], ...] = ((10, 100), (100, 1000), (500, 5000))
  dead_below: float = 6.4
  twin_noise: float = 1e-12
  as_codes: bool = dataclasses.field(
      default=False, metadata=interfaces.LATER)

  def __post_init__(self):
    super().__post_init__()
    object.__setattr__(
        self, "looks", tuple(tuple(look) for look in self.looks))
    if self.codes < 2 or any(
        len(look) != 2 or min(look) < 1 for look in self.looks):
      raise errors.ConfigError(
          f"A codebook needs two codes or more, and looks = ((period, end), "
          f"...); got codes = {self.codes}, looks = {self.looks}.")

  @property
  def latent_dim(self) -> int:
    """Numbers of a label."""
    return self.slots if self.as_codes else super().latent_dim


PRESETS = {
    # The released laq_openx and laq_sthv2: 8^4 actions, 343.8M parameters.
    "lapa": Config(),
    # DreamGen's: 16 slots, trained with a batch of 1024.
    "dreamgen": Config(slots=16, patch=16, dead_below=102.4),
    # The tabletop at 64 pixels.
    "nano": Config(
        code_width=8, camera_size=64, patch=8, width=64, heads=4,
        head_width=16, spatial_depth=2, temporal_depth=1, quirks=False,
        looks=((10, 100), (50, 600)), twin_noise=0.01),
}

RULES = [
    (r"(q|k|v|in|hidden)/kernel$", ("fsdp", "tensor")),
    (r"(o|out|pixels)/kernel$", ("tensor", "fsdp")),
    (r"codes/kernel$", (None, "fsdp")),
    (r".*", ()),
]


@dataclasses.dataclass(frozen=True)
class Model:
  """The labeler as `interfaces.Labeler`; one view, chunks of one step."""

  config: Config

  def init(self, rng: types.Array) -> interfaces.Params:
    """Fresh float32 parameters."""
    c = self.config
    position_rng, encoder_rng, decoder_rng, code_rng = jax.random.split(rng, 4)
    bias, positions = net.PositionBias(c).init_with_output(position_rng)
    frames = jnp.zeros((1, 2, c.camera_size, c.camera_size, 3))
    (latent, first), encoder = net.Encoder(c).init_with_output(
        encoder_rng, frames, bias)
    decoder = net.Decoder(c).init(decoder_rng, latent, first, bias)
    return {
        "positions": positions["params"],
        "encoder": encoder["params"],
        "codebook": jax.random.normal(code_rng, (c.codes, c.code_width)),
        "decoder": decoder["params"],
    }

  def example(self, batch_size: int) -> interfaces.Batch:
    """Shapes and dtypes of a training batch."""
    size = self.config.camera_size
    return {"images": jax.ShapeDtypeStruct(
        (batch_size, 2, 1, size, size, 3), jnp.uint8)}

  def loss(
      self, params: interfaces.Params, rng: types.Array,
      batch: interfaces.Batch,
  ) -> tuple[types.Array, dict[str, types.Array]]:
    """Mean squared error of the predicted second frame, pixels in [0, 1].

    Returns:
      (scalar, `codebook.usage` of the batch).
    """
    c = self.config
    frames = self.frames(batch["images"])
    noise = jax.random.normal(rng, (len(frames), c.slots, c.code_width))
    loss, (_, index) = self.loss_at(params, frames, noise)
    return loss, self.usage(index)

  def loss_at(
      self, params: interfaces.Params, frames: types.Array,
      noise: types.Array,
  ) -> tuple[types.Array, tuple[types.Array, types.Array]]:
    """The loss for given noise.

    Args:
      params: of `init`.
      frames: f32[b,2,h,w,3] in [0, 1].
      noise: f32[b,l,e] of any length.

    Returns:
      (scalar, (predicted second frames f32[b,h,w,3], indices i32[b,l])).
    """
    latent, first = self.encode(params, frames)
    index = self.nearest(params, latent)
    codes = codebook.substitute(latent, params["codebook"][index], noise)
    found = self.decode(params, codes, first)
    return jnp.mean((found - frames[:, 1]) ** 2), (found, index)

  def see(self, params: interfaces.Params,
          images: types.Array) -> types.Array:
    """Frames u8[b,1,h,w,3] as they are: both of a pair are looked at at once.
    """
    del params
    return images

  def label(self, params: interfaces.Params, rng: types.Array,
            seen: types.Array, embodiment: types.Array,
            samples: int = 1) -> types.Array:
    """Frame pairs -> the latents before the look-up in the codebook, or codes.

    Args:
      params: of `init`.
      rng, embodiment: not used; latents are certain, and of no robot.
      seen: u8[b,2,1,h,w,3] of the config's size.
      samples: k, all the same.

    Returns:
      f32[k,b,1,a], a = slots * code_width: the slots behind each other; or
      a = slots: the middle of each code's share of [-1, 1].

    Raises:
      DataError: frames of another size, or several views.
    """
    del rng, embodiment
    latent, _ = self.encode(params, self.frames(seen))
    if self.config.as_codes:
      index = self.nearest(params, latent)[..., None]  # b l 1
      latent = (2 * index + 1) / self.config.codes - 1
    return repeat(latent, "b l e -> k b 1 (l e)", k=samples)

  def frames(self, images: types.Array) -> types.Array:
    """u8[b,2,1,h,w,3] -> f32[b,2,h,w,3] in [0, 1].

    Raises:
      DataError: frames of another size, or several views.
    """
    size = self.config.camera_size
    if images.shape[2:] != (1, size, size, 3):
      raise errors.DataError(
          f"A latent action is between two frames of one camera, {size}x{size}"
          f" pixels; got {images.shape[2]} cameras of "
          f"{images.shape[3]}x{images.shape[4]}.")
    return images[:, :, 0].astype(jnp.float32) / 255

  def encode(self, params: interfaces.Params,
             frames: types.Array) -> tuple[types.Array, types.Array]:
    """f32[b,2,h,w,3] -> latent f32[b,l,e], patches of the first frame."""
    return net.Encoder(self.config).apply(
        {"params": params["encoder"]}, frames, self._bias(params))

  def decode(self, params: interfaces.Params, codes: types.Array,
             first: types.Array) -> types.Array:
    """Codes f32[b,l,e], patches of `encode` -> second frame f32[b,h,w,3]."""
    return net.Decoder(self.config).apply(
        {"params": params["decoder"]}, codes, first, self._bias(params))

  def nearest(self, params: interfaces.Params,
              latent: types.Array) -> types.Array:
    """Indices i32[b,l] of the codes nearest to a latent f32[b,l,e]."""
    return codebook.nearest(params["codebook"], latent)

  def usage(self, index: types.Array) -> dict[str, types.Array]:
    """How the codebook is used by indices i32[b,l]: `codebook.usage`."""
    return codebook.usage(index, self.config.codes)

  def memory(self) -> interfaces.Params:
    """In how many batches each code has come up since the last look."""
    return {"batches": jnp.zeros(self.config.codes, jnp.int32)}

  def maintain(
      self, params: interfaces.Params, memory: interfaces.Params,
      scalars: dict[str, types.Array], step: types.Array, rng: types.Array,
  ) -> tuple[interfaces.Params, interfaces.Params]:
    """Revives dead codes where a look is due; see `stages.train.Upkeep`."""
    c = self.config
    if params["codebook"] is None or not c.looks:  # it is not trained
      return params, memory
    used = jnp.stack([scalars[f"use/code_{i}"] > 0 for i in range(c.codes)])
    batches = memory["batches"] + used
    due = jnp.asarray(False)
    for period, end in reversed(c.looks):
      due = jnp.where(step < end, step % period == 0, due)
    due = due & (step > 0)
    revived = codebook.revive(
        params["codebook"], batches < c.dead_below, c.twin_noise, rng)
    return (params | {"codebook": jnp.where(due, revived, params["codebook"])},
            {"batches": jnp.where(due, 0, batches)})

  def _bias(self, params):
    return net.PositionBias(self.config).apply(
        {"params": params["positions"]})
