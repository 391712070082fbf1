"""A vision-language model that says actions: RT-2's way on PaliGemma's parts.

  images -> SigLIP -> linear  \\
  instruction -> word vectors  } prefix, which sees itself
  begin, action tokens         } suffix, each sees what is before it
  -> Gemma -> the next action token

A chunk of `u` actions of `a` values is u a tokens, step by step; each is one of
`bins` words at the vocabulary's end (`bins`), and no other word is considered,
as in RT-2 (arXiv 2307.15818). Decoding is greedy. The prefix, which is long, is
computed once; the suffix, which is short, for every token.

LAPA (arXiv 2410.11758) first teaches such a model the codes of latent actions,
from videos without actions, then the robot's actions: a run of `train_policy`
on what a labeler with `as_codes` has labelled, and one that starts from it
(configs/latent_actions.py:tokens). Both have the same parameters.

Reads a batch of image/<camera> u8[b,1,h,w,3]; state f32[b,1,s] and state_mask,
which it is not told; tokens i32[b,m] and token_mask bool[b,m] of `read`; action
f32[b,u,a] normalised to [-1, 1]; mask bool[b,u,a]; optional weight.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from einops import rearrange, repeat
from flax import linen as nn

from dreamgen_jax import errors, interfaces
from dreamgen_jax.encoders import gemma, gemma_prompt, siglip
from dreamgen_jax.layers import augment, chunks, pixels
from dreamgen_jax.policies.token_vla import bins as bins_lib

_EXPERT = ("language",)


@dataclasses.dataclass(frozen=True)
class Config:
  """What the policy sees, what it says, and how big it is.

  Attributes:
    vision, language: sizes of the networks.
    action_dim, state_dim: widths `a` and `s` of the robot.
    cameras: names, in the order in which they are shown.
    image_size: height and width of the images in a batch; fitted into the
      tower's, with black bars.
    horizon: `u`, steps of a chunk; RT-2 says one at a time.
    vocabulary: number of tokens; the last `bins` are actions, the one before
      them begins them.
    bins: see `bins`.
    text_length: `m`.
    normalize: how positions are scaled, see `types.Key`; None is each key's
      own way.
    jitter: strengths of brightness, contrast and saturation in training.
    dtype: compute dtype of the language model.
    remat: see `layers.stack.repeat`.
  """

  vision: siglip.Config
  language: gemma.Config
  action_dim: int = 7
  state_dim: int = 7
  cameras: Sequence[str] = ("front",)
  image_size: Sequence[int] = (224, 224)
  horizon: int = 1
  vocabulary: int = 257_152
  bins: int = 256
  text_length: int = 48
  normalize: str | None = "q99"
  jitter: Sequence[float] = (0.3, 0.4, 0.5)
  dtype: str = "float32"
  remat: str = "none"

  def __post_init__(self):
    for name in ("cameras", "image_size", "jitter"):
      object.__setattr__(self, name, tuple(getattr(self, name)))
    if not self.cameras or self.horizon < 1 or not (
        3 <= self.bins < self.vocabulary):
      raise errors.ConfigError(
          f"A policy of tokens needs a camera, a horizon ({self.horizon}) of "
          f"at least 1, and 3 or more bins ({self.bins}), fewer than its "
          f"vocabulary ({self.vocabulary}).")

  @property
  def n_obs_steps(self) -> int:
    """`o`: it sees the present only."""
    return 1

  @property
  def said(self) -> int:
    """Tokens of a chunk."""
    return self.horizon * self.action_dim


PRESETS = {
    # PaliGemma's sizes, and RT-2's one step at a time.
    "paligemma_3b": Config(
        vision=siglip.Config(
            1152, 27, 16, 4304, 14, 224, dtype="bfloat16",
            embed_dtype="float32", remat="full"),
        language=gemma.PRESETS["gemma_2b"], dtype="bfloat16", remat="full"),
    # Tabletop simulator at 64 pixels; trains on a laptop.
    "nano": Config(
        action_dim=5,
        state_dim=5,
        image_size=(64, 64),
        horizon=4,
        vision=siglip.Config(128, 2, 4, 256, 8, 64),
        language=gemma.Config(128, 4, 256, 4, 1, 32),
        vocabulary=640,
        bins=64,
        text_length=24,
        normalize=None,
        jitter=(0.1, 0.1, 0.1),
    ),
}

# The last dims of a kernel are (in, out).
RULES = [
    (r"(q|k|v|in|ffn_gate|ffn_up)/kernel$", ("fsdp", "tensor")),
    (r"(o|out|ffn_out)/kernel$", ("tensor", "fsdp")),
    (r"token/embedding$", ("tensor", "fsdp")),
    (r"(patch/kernel|positions)$", (None, "fsdp")),
    (r".*", ()),
]


@dataclasses.dataclass(frozen=True)
class Model:
  """The policy as `interfaces.Policy`; parameters {"images", "words",
  "language"}; words are told and said with the same vectors.
  """

  config: Config

  def init(self, rng: jax.Array) -> interfaces.Params:
    """Fresh float32 parameters."""
    c, side = self.config, self.config.vision.image_size
    inputs = {
        "images": (jnp.zeros((1, side, side, 3)),),
        "words": (jnp.zeros((1, 1), jnp.int32),),
        "language": ((jnp.zeros((1, 1, c.language.width)),),
                     jnp.ones((1, 1, 1), bool), jnp.zeros((1, 1), jnp.int32)),
    }
    return {name: self._nets[name].init(key, *given)["params"]
            for key, (name, given) in zip(
                jax.random.split(rng, 3), inputs.items(), strict=True)}

  def example(self, batch_size: int) -> interfaces.Batch:
    """Shapes and dtypes of a training batch."""
    return gemma_prompt.example(self.config, batch_size)

  def read(self, language: Any, instructions: Sequence[str],
           state: np.ndarray) -> interfaces.Batch:
    """As `interfaces.Policy.read`, see `gemma_prompt.read`."""
    del state
    return gemma_prompt.read(self.config, language, instructions,
                             reserved=self.config.bins + 1)

  def loss(
      self, params: interfaces.Params, rng: jax.Array, batch: interfaces.Batch
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean cross entropy of the action tokens, over entries not masked.

    Args:
      params: of `init`.
      rng: for augmentation.
      batch: see the module.

    Returns:
      (scalar, {"loss", "accuracy" of the bins}).
    """
    c = self.config
    chunks.check(c, batch)
    action = jnp.where(batch["mask"], batch["action"], 0.0)  # may be NaN
    index = bins_lib.encode(action, c.bins)  # b u a
    said = rearrange(index, "b u a -> b (u a)")
    prefix, seen = self._prefix(params, batch, rng)
    tokens = jnp.concatenate([prefix, self._suffix(params, said)], axis=1)
    valid = jnp.concatenate(
        [seen, jnp.ones(said.shape, bool)], axis=1)  # b l
    (hidden,), _ = self._run(
        params, "language", (tokens,),
        gemma.block_mask(valid, [seen.shape[1], *[1] * c.said]),
        gemma.positions(valid))
    logits = rearrange(
        self._logits(params, hidden[:, -c.said:]),
        "b (u a) e -> b u a e", u=c.horizon)
    share = batch["mask"].astype(jnp.float32)
    loss = chunks.mean(
        optax.softmax_cross_entropy_with_integer_labels(logits, index),
        share, batch)
    right = (jnp.argmax(logits, axis=-1) == index).astype(jnp.float32)
    return loss, {"loss": loss,
                  "accuracy": chunks.mean(right, share, batch)}

  def act(self, params: interfaces.Params, rng: jax.Array,
          observation: interfaces.Batch) -> jax.Array:
    """The likeliest chunk, token by token, from the current step on.

    Args:
      params: of `init`.
      rng: not used.
      observation: the batch without action, mask and weight.

    Returns:
      Normalised actions f32[b,u,a].
    """
    del rng
    c = self.config
    prefix, seen = self._prefix(params, observation)
    _, memory = self._run(
        params, "language", (prefix,),
        gemma.block_mask(seen, [seen.shape[1]]), gemma.positions(seen),
        remember=True)
    own = jnp.ones((len(prefix), c.said), bool)
    before = repeat(seen, "b m -> b l m", l=c.said)
    mask = jnp.concatenate(
        [before, gemma.block_mask(own, [1] * c.said)], axis=2)
    positions = gemma.positions(own) + jnp.sum(seen, axis=1, keepdims=True)

    def say(said, i):
      (hidden,), _ = self._run(
          params, "language", (self._suffix(params, said),), mask, positions,
          None, memory)
      best = jnp.argmax(self._logits(params, hidden), axis=-1)  # b l
      here = jnp.arange(c.said) == i
      return jnp.where(here, best.astype(said.dtype), said), None

    said, _ = jax.lax.scan(
        say, jnp.zeros(own.shape, jnp.int32), jnp.arange(c.said))
    return rearrange(bins_lib.decode(said, c.bins),
                     "b (u a) -> b u a", u=c.horizon)

  @property
  def _nets(self) -> dict[str, nn.Module]:
    c = self.config
    return {
        "images": siglip.Images(c.vision, c.language.width),
        "words": gemma.Words(c.vocabulary, c.language.width, c.dtype),
        "language": gemma.Experts(_EXPERT, (c.language,), c.dtype, c.remat),
    }

  def _run(self, params, name, *inputs, **settings):
    return self._nets[name].apply({"params": params[name]}, *inputs,
                                  **settings)

  def _prefix(self, params, batch, rng=None):
    """(tokens [b,l,d] of images and words, which of them count bool[b,l])."""
    c = self.config
    side, images = c.vision.image_size, []
    for i, camera in enumerate(c.cameras):
      image = pixels.letter_box(
          pixels.to_unit(batch[f"image/{camera}"]), side, side)  # b 1 h w 3
      if rng is not None and any(c.jitter):
        image = augment.color_jitter(
            jax.random.fold_in(rng, i), (image + 1) / 2, c.jitter) * 2 - 1
      images.append(image[:, -1])
    tokens = rearrange(
        self._run(params, "images", jnp.concatenate(images)),
        "(v b) l d -> b (v l) d", v=len(images))
    words = self._run(params, "words", batch["tokens"])
    seen = jnp.concatenate([
        jnp.ones(tokens.shape[:2], bool), batch["token_mask"]], axis=1)
    return jnp.concatenate(
        [x.astype(c.dtype) for x in (tokens, words)], axis=1), seen

  def _suffix(self, params, said):
    """Bins i32[b,l] -> vectors [b,l,d] of a beginning and all but the last."""
    c = self.config
    begin = jnp.full((len(said), 1), c.vocabulary - c.bins - 1)
    return self._run(params, "words", jnp.concatenate(
        [begin, bins_lib.token(said[:, :-1], c.vocabulary)], axis=1))

  def _logits(self, params, hidden):
    """[b,l,d] -> f32[b,l,bins]; as Gemma says words."""
    c = self.config
    table = params["words"]["token"]["embedding"][-c.bins:][::-1]
    return jnp.einsum("bld,ed->ble", hidden, table.astype(hidden.dtype),
                      preferred_element_type=jnp.float32)
