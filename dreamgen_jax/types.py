"""The records that walk through the house (host side: numpy only).

Shape letters: b batch, f video frames, t latent frames, h w, c channels,
l tokens, m text tokens, u chunk steps, a action, s state; `n` here is the
number of control steps of an episode.
"""

import dataclasses
from typing import Any

import numpy as np

Array = Any  # np.ndarray on the host, jax.Array on a device


@dataclasses.dataclass(frozen=True)
class Clock:
  """The only holder of a rate.

  Frame i is seen at i / video_hz seconds, step j acts at j / control_hz.
  """

  video_hz: float
  control_hz: float

  @property
  def steps_per_frame(self) -> float:
    return self.control_hz / self.video_hz


@dataclasses.dataclass(frozen=True)
class Origin:
  """Where an episode comes from.

  Attributes:
    kind: "robot", "sim" or "dream".
    dataset: name of the dataset that the episode, or its start frame, is of.
    source_id: id of the episode that gave the start frame (dreams only).
    world_model, adapter, labeler: content digests of what made it ("" = none).
    sampler: JSON of the sampler's settings.
    seed: the seed that the dream (or the simulator's reset) was keyed by.
    scores: judge name -> score; empty before the filter stage.
    kept: False once the filter stage rejected it, with the reason in `reason`.
    state_decoded: whether the state was decoded from video, not measured.
    labeling: JSON of the labeler's time base and how it was asked.
  """

  kind: str
  dataset: str = ""
  source_id: str = ""
  world_model: str = ""
  adapter: str = ""
  labeler: str = ""
  sampler: str = "{}"
  seed: int = 0
  scores: dict[str, float] = dataclasses.field(default_factory=dict)
  kept: bool = True
  reason: str = ""
  state_decoded: bool = False
  labeling: str = ""


@dataclasses.dataclass(frozen=True)
class Episode:
  """One trajectory; it fills in as it walks.

  Attributes:
    id: unique within its dataset.
    video: camera -> uint8[f, h, w, 3], upright RGB, at clock.video_hz.
    instruction: what the robot was told to do.
    embodiment: name of a module in `dreamgen_jax/embodiments`.
    clock: rates of video and control.
    origin: provenance.
    state: float32[n, s] at clock.control_hz, or None when unknown.
    action: float32[n, a], physical units of the embodiment; None before
      labelling. action[j] is commanded at step j, after state[j] is seen.
    spread: float32[n, a], standard deviation of the label over noise samples
      and overlapping windows; None when the action was recorded.
    disagreement: float32[n, a], the part of it that lies between windows.
    success: what the simulator or operator said; None when nobody did.
    facts: further flat metadata (verb, scene, ...), JSON-able.
  """

  id: str
  video: dict[str, np.ndarray]
  instruction: str
  embodiment: str
  clock: Clock
  origin: Origin
  state: np.ndarray | None = None
  action: np.ndarray | None = None
  spread: np.ndarray | None = None
  disagreement: np.ndarray | None = None
  success: bool | None = None
  facts: dict[str, Any] = dataclasses.field(default_factory=dict)


NeuralTrajectory = Episode  # the paper's word: an Episode of origin "dream"


@dataclasses.dataclass(frozen=True)
class Prompt:
  """What a world model dreams from: a first frame and an instruction.

  `frames` is camera -> uint8[h, w, 3].
  """

  id: str
  frames: dict[str, np.ndarray]
  instruction: str
  embodiment: str
  clock: Clock
  origin: Origin
  facts: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Verdict:
  """A judge's word on one episode; `score` in [0, 1]."""

  episode_id: str
  judge: str
  score: float
  reason: str = ""


@dataclasses.dataclass(frozen=True)
class Key:
  """One named slice of a state or action vector.

  Attributes:
    name: e.g. "eef_position".
    dims: width of the slice.
    unit: "m", "rad", "deg" or "1".
    kind: "position" (averaged and normalised linearly), "angle" (circular,
      period 2 pi, in the given unit), "rotation" (3 dims: axis times angle in
      rad, averaged in SO(3)) or "binary" (0 or 1, voted, never scaled).
    absolute: absolute targets repeat past an episode's end, relative ones
      are zero there.
    normalize: "min_max", "q99", "mean_std" or "identity".
    rotation: how a rotation is written, see `data.orientation`; "" for none.
    gripper: what 1 means, "open" or "closed"; "" where it is no gripper.
  """

  name: str
  dims: int
  unit: str = "1"
  kind: str = "position"
  absolute: bool = True
  normalize: str = "min_max"
  rotation: str = ""
  gripper: str = ""


@dataclasses.dataclass(frozen=True)
class Embodiment:
  """A robot as data; `dreamgen_jax/embodiments/<name>.py` exports EMBODIMENT.

  Attributes:
    name: the module's name.
    id: row of the per-embodiment weights in labelers and policies.
    state, action: the keys in vector order.
    cameras: camera name -> role ("front", "wrist", "left", "right", "ego").
    clock: rates of its own recordings.
    template: prompt template with one "{instruction}".
  """

  name: str
  id: int
  state: tuple[Key, ...]
  action: tuple[Key, ...]
  cameras: dict[str, str]
  clock: Clock
  template: str = "{instruction}"

  @property
  def state_dim(self) -> int:
    return sum(key.dims for key in self.state)

  @property
  def action_dim(self) -> int:
    return sum(key.dims for key in self.action)
