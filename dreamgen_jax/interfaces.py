"""The contracts that stages rely on; shapes by the legend in `layers`.

Objects are stateless and hashable (a frozen config inside); parameters are
plain nested dicts of arrays that are passed in. Batches are dicts of arrays.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dreamgen_jax import types

Params = dict[str, Any]
Batch = Mapping[str, Any]
# Metadata of a config's field that is younger than results on disk: while it
# has its default, their keys leave it out.
LATER = {"later": True}


class Objective(Protocol):
  """All that the one training loop knows of a model."""

  def loss(
      self, params: Params, rng: types.Array, batch: Batch
  ) -> tuple[types.Array, dict[str, types.Array]]:
    """(scalar loss, named scalars)."""


class Trainable(Objective, Protocol):
  """An objective that knows its parameters and its batches."""

  def __hash__(self) -> int:
    """Of the config: compiled programs are kept by it."""

  @property
  def config(self) -> Any:
    """The frozen dataclass of its sizes."""

  def init(self, rng: types.Array) -> Params:
    """Fresh parameters."""

  def example(self, batch_size: int) -> Batch:
    """jax.ShapeDtypeStruct of every leaf of a training batch."""


class WorldModel(Trainable, Protocol):
  """Batch: latent f32[b,t,h,w,c], leaves of encode_frame and encode_text.

  Its config has frames, height, width, video_hz, steps, guidance,
  latent_shape; `experts`, the names of the parameters that are tuned;
  `text_sees_frame`: whether a prompt's states depend on the first frame;
  `sees_last_frame`: whether a clip is told its last frame too, which
  `encode_frame` and `generate` are then given as `last`, u8[b,h,w,3];
  `negative`, the prompt of the unguided branch; and `sampling`, the names of
  the fields that a stage may replace when it dreams.
  """

  def tokenize(self, tokenizer: Any, prompts: Sequence[str]) -> Batch:
    """Prompts -> numpy leaves [b, ...] that `encode_text` reads."""

  def encode_video(self, params: Params, video: types.Array) -> types.Array:
    """u8[b,f,h,w,3] -> normalised latent f32[b,t,h,w,c]."""

  def encode_frame(self, params: Params, frame: types.Array) -> Batch:
    """First frame u8[b,h,w,3] -> the leaves that tell it to the network."""

  def encode_text(self, params: Params, tokens: Batch,
                  frame: types.Array | None = None) -> Batch:
    """`tokenize`'s leaves -> leaves whose names start with "text"."""

  def error_at(self, params: Params, rng: types.Array, batch: Batch,
               tau: types.Array) -> types.Array:
    """Velocity error of each clip, f32[b], at the noise level tau f32[b]."""

  def guess(self, params: Params, rng: types.Array, batch: Batch,
            tau: types.Array) -> types.Array:
    """What a clip made noisy to tau f32[b] is taken for: its latent."""

  def generate(self, params: Params, rng: types.Array, frame: types.Array,
               text: Batch, empty_text: Batch, *, steps: int | None = None,
               guidance: float | None = None) -> types.Array:
    """Dreams a clip from its first frame.

    Args:
      params: the model's parameters.
      rng: one key per clip, key[b], so that a clip does not depend on the
        batch that it is made in.
      frame: u8[b,h,w,3].
      text, empty_text: of the prompt and of the negative prompt.
      steps, guidance: instead of the config's.

    Returns:
      u8[b,f,h,w,3].
    """


class Labeler(Trainable, Protocol):
  """Batch: images u8[b,f,v,h,w,3] and, unless it learns without actions,
  action f32[b,u,a], mask bool[b,u,a], embodiment i32[b].

  Its config has camera_size, the side of the images; its fields action_dim,
  horizon, views and frames, where it has them, are set by the stage. `f` is
  frames, or 2: the first and last of what a chunk is decoded from.

  One that can decode states has the field state_dim, 0 until a stage sets it;
  then batches hold state f32[b,f,s] and state_mask bool[b,f], and it has
  `state(params, seen, embodiment) -> f32[b,s]`, normalised.
  """

  def see(self, params: Params, images: types.Array) -> types.Array:
    """Frames in all views u8[b,v,h,w,3] -> what it makes of each, [b,...]."""

  def label(self, params: Params, rng: types.Array, seen: types.Array,
            embodiment: types.Array, samples: int = 1) -> types.Array:
    """Seen frames [b,f,...] -> normalised action chunks f32[k,b,u,a].

    `rng` is one key, or one per window; k = samples.
    """


class Policy(Trainable, Protocol):
  """Batch: an observation plus action f32[b,u,a] and mask bool[b,u,a].

  Observation leaves: image/<camera> u8[b,o,h,w,3], state f32[b,o,s],
  state_mask bool[b,o], embodiment i32[b], and what `read` makes of the
  instruction: text f32[b,e], or tokens i32[b,m] and token_mask bool[b,m].
  Of these a network takes those that `example` lists.

  A class that says `inpaints = True` can be told what a chunk has to begin
  with, from the current step on: kept f32[b,u,a] normalised, and how firmly,
  kept_share f32[b,u] in [0, 1].

  Its config has horizon `u`, n_obs_steps `o`, image_size (h, w) of the images
  in a batch, and, if the stage is to set it, text_dim `e`; with weights per
  embodiment, `embodiments`, the number of them.
  """

  def read(self, language: Any, instructions: Sequence[str],
           state: types.Array) -> Batch:
    """Instructions -> the numpy leaves [b, ...] that tell them to the network.

    Args:
      language: an `agent.Language`.
      instructions: b sentences.
      state: f32[b,o,s] normalised, zero where unknown; some networks are told
        it in words.
    """

  def act(self, params: Params, rng: types.Array,
          observation: Batch) -> types.Array:
    """Normalised action chunk f32[b,u,a]."""


class Judge(Protocol):
  """Anything that scores episodes."""

  def score(self, episodes: Sequence[types.Episode]) -> list[types.Verdict]:
    """One verdict per episode, in order."""
