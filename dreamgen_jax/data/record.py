"""The feature spec of episodes on disk, both ways (RLDS shape).

`steps` runs at control_hz; the video lies beside it, one mp4 file per camera,
because dreams have other rates than controls. Features are tensors, text and
scalars only, so neither reading nor writing needs TensorFlow.

NaN in `Episode.action` marks an entry without a label: it is stored as 0 with
`action_mask` False and comes back as NaN. Datasets older than a feature of
`YOUNGER` lack it, and are read as if nothing was known of it.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from dreamgen_jax import errors, types
from dreamgen_jax.data import example, ranges, video

_VIDEO = "episode_metadata/video/"
YOUNGER = ("steps/action_disagreement", "episode_metadata/has_disagreement")


def features(embodiment: types.Embodiment,
             cameras: Sequence[str]) -> tfds.features.FeaturesDict:
  """The feature spec for an embodiment seen by `cameras`."""
  state, action = (embodiment.state_dim,), (embodiment.action_dim,)
  tensor, scalar, text = (
      tfds.features.Tensor, tfds.features.Scalar, tfds.features.Text
  )
  return tfds.features.FeaturesDict({
      "steps": tfds.features.Dataset({
          "observation": {"state": tensor(shape=state, dtype=np.float32)},
          "action": tensor(shape=action, dtype=np.float32),
          "action_mask": tensor(shape=action, dtype=np.bool_),
          "action_spread": tensor(shape=action, dtype=np.float32),
          "action_disagreement": tensor(shape=action, dtype=np.float32),
          "is_first": scalar(dtype=np.bool_),
          "is_last": scalar(dtype=np.bool_),
          "is_terminal": scalar(dtype=np.bool_),
          "reward": scalar(dtype=np.float32),
          "discount": scalar(dtype=np.float32),
          "language_instruction": text(),
      }),
      "episode_metadata": {
          "episode_id": text(),
          "embodiment": text(),
          "video_hz": scalar(dtype=np.float32),
          "control_hz": scalar(dtype=np.float32),
          "num_steps": scalar(dtype=np.int64),
          "num_frames": scalar(dtype=np.int64),
          "has_state": scalar(dtype=np.bool_),
          "has_action": scalar(dtype=np.bool_),
          "has_spread": scalar(dtype=np.bool_),
          "has_disagreement": scalar(dtype=np.bool_),
          "success": scalar(dtype=np.int32),  # -1 unknown
          "video": {camera: text(doc="mp4 file") for camera in cameras},
          "origin": text(doc="JSON of types.Origin"),
          "facts": text(doc="JSON"),
      },
  })


def identity(embodiment: types.Embodiment,
             cameras: Sequence[str]) -> dict[str, Any]:
  """What a dataset's metadata must say for its records to be understood."""
  return {"embodiment": dataclasses.asdict(embodiment),
          "cameras": list(cameras)}


def num_steps(num_frames: int, clock: types.Clock) -> int:
  """Control steps from the first frame up to the last one's time."""
  return math.floor((num_frames - 1) * clock.steps_per_frame + 1e-6) + 1


def steps(episode: types.Episode,
          embodiment: types.Embodiment) -> dict[str, Any]:
  """Columns of the steps of an episode, zeros where nothing is known.

  Raises:
    DataError: wrong widths or lengths, no video, no frame.
  """
  lengths = {len(frames) for frames in episode.video.values()}
  if not lengths:
    raise errors.DataError(f"Episode {episode.id!r} has no video.")
  if len(lengths) > 1:
    raise errors.DataError(
        f"The cameras of episode {episode.id!r} differ in length: "
        f"{sorted(lengths)}."
    )
  n = _length(episode, lengths.pop())
  action = _rows(episode, "action", n, embodiment.action_dim)
  mask = np.isfinite(action) & (episode.action is not None)
  last = np.arange(n) == n - 1
  return {
      "observation": {
          "state": _rows(episode, "state", n, embodiment.state_dim)
      },
      "action": np.where(mask, action, 0).astype(np.float32),
      "action_mask": mask,
      "action_spread": _rows(episode, "spread", n, embodiment.action_dim),
      "action_disagreement": _rows(
          episode, "disagreement", n, embodiment.action_dim),
      "is_first": np.arange(n) == 0,
      "is_last": last,
      "is_terminal": last & (episode.success is True),
      "reward": (last & (episode.success is True)).astype(np.float32),
      "discount": np.ones(n, np.float32),
      "language_instruction": [episode.instruction.encode()] * n,
  }


def to_record(episode: types.Episode, embodiment: types.Embodiment,
              cameras: Sequence[str] | None = None,
              codec: str = "h264") -> dict[str, Any]:
  """An episode as nested columns, ready for TFDS.

  Args:
    episode: what to store; its videos are encoded here.
    embodiment: gives the widths of state and action.
    cameras: which cameras to keep; None keeps all.
    codec: of the videos, see `video.encode`.

  Raises:
    DataError: wrong widths or lengths, a camera missing, no frame.
  """
  cameras = list(episode.video) if cameras is None else list(cameras)
  for camera in cameras:
    if camera not in episode.video:
      raise errors.DataError(
          f"Episode {episode.id!r} has no camera {camera!r}, only "
          f"{sorted(episode.video)}."
      )
  videos = {camera: episode.video[camera] for camera in cameras}
  columns = steps(dataclasses.replace(episode, video=videos), embodiment)
  return {
      "steps": columns,
      "episode_metadata": {
          "episode_id": episode.id.encode(),
          "embodiment": episode.embodiment.encode(),
          "video_hz": np.float32(episode.clock.video_hz),
          "control_hz": np.float32(episode.clock.control_hz),
          "num_steps": np.int64(len(columns["action"])),
          "num_frames": np.int64(len(videos[cameras[0]])),
          "has_state": np.bool_(episode.state is not None),
          "has_action": np.bool_(episode.action is not None),
          "has_spread": np.bool_(episode.spread is not None),
          "has_disagreement": np.bool_(episode.disagreement is not None),
          "success": np.int32(
              -1 if episode.success is None else episode.success
          ),
          "video": {
              camera: video.encode(frames, episode.clock.video_hz, codec)
              for camera, frames in videos.items()
          },
          "origin": json.dumps(dataclasses.asdict(episode.origin)).encode(),
          "facts": json.dumps(episode.facts).encode(),
      },
  }


def from_record(record: Mapping[str, Any],
                cameras: Sequence[str] | None = None) -> types.Episode:
  """The episode of a record of nested columns, as `Dataset.record` gives it.

  Args:
    record: columns of `steps`, and `episode_metadata`; videos are bytes.
    cameras: which cameras to decode; None decodes all, () none.

  Raises:
    DataError: unknown camera, damaged video, or a wrong number of frames.
  """
  meta = record["episode_metadata"]
  found = with_video(without_video(record), meta["video"], cameras)
  for camera, frames in found.video.items():
    if len(frames) != meta["num_frames"]:
      raise errors.DataError(
          f"Episode {found.id!r}, camera {camera!r}: {len(frames)} frames "
          f"instead of {meta['num_frames']}.")
  return found


def with_video(episode: types.Episode, files: Mapping[str, Any],
               cameras: Sequence[str] | None = None,
               frames: Sequence[int] | np.ndarray | None = None
               ) -> types.Episode:
  """The episode with what is wanted of its videos.

  Args:
    episode: without video.
    files: camera -> what `video.decode` takes.
    cameras: which to decode; None decodes all.
    frames: which to decode, in that order; None decodes all.

  Raises:
    DataError: unknown camera, or a damaged video.
  """
  videos = {}
  for camera in files if cameras is None else cameras:
    if camera not in files:
      raise errors.DataError(
          f"Episode {episode.id!r} has no camera {camera!r}, only "
          f"{sorted(files)}.")
    try:
      videos[camera] = video.decode(files[camera], frames)
    except errors.DataError as error:
      raise errors.DataError(
          f"Episode {episode.id!r}, camera {camera!r}: {error}") from error
  return dataclasses.replace(episode, video=videos)


def without_video(record: Mapping[str, Any]) -> types.Episode:
  """All of a record but its videos, which are not read."""
  steps, meta = record["steps"], record["episode_metadata"]
  action = np.where(steps["action_mask"], steps["action"], np.nan)
  success = int(meta["success"])
  return types.Episode(
      id=_text(meta["episode_id"]),
      video={},
      instruction=_text(steps["language_instruction"][0]),
      embodiment=_text(meta["embodiment"]),
      clock=types.Clock(_hz(meta["video_hz"]), _hz(meta["control_hz"])),
      origin=types.Origin(**json.loads(meta["origin"])),
      state=steps["observation"]["state"] if meta["has_state"] else None,
      action=action.astype(np.float32) if meta["has_action"] else None,
      spread=steps["action_spread"] if meta["has_spread"] else None,
      disagreement=(steps["action_disagreement"]
                    if meta.get("has_disagreement", False) else None),
      success=None if success < 0 else bool(success),
      facts=json.loads(meta["facts"]),
  )


def columns(part: ranges.Part,
            spec: Mapping[str, tuple[tuple, str]]) -> dict[str, Any]:
  """A record of a file as nested columns, for windows.

  Videos stay parts of the file; of a text that steps repeat, the first is read.

  Args:
    part: the serialised record.
    spec: see `flat`.

  Raises:
    DataError: a feature is missing.
  """
  found = example.features(part)
  nested: dict[str, Any] = {}
  for name, (shape, dtype) in spec.items():
    if name not in found:
      raise errors.DataError(f"A record has no feature {name!r}.")
    *groups, leaf = name.split("/")
    inside = nested
    for group in groups:
      inside = inside.setdefault(group, {})
    if dtype == "text":
      text = found[name].first()
      values = [text if name.startswith(_VIDEO) else text.read()]
    else:
      values = found[name].values().astype(dtype).reshape(-1, *shape)
    inside[leaf] = values if groups[0] == "steps" else values[0]
  return nested


def with_origin(record: Mapping[str, Any],
                origin: types.Origin) -> dict[str, Any]:
  """The record with another origin, and with what is younger than it."""
  steps, meta = dict(record["steps"]), dict(record["episode_metadata"])
  steps.setdefault("action_disagreement", np.zeros_like(steps["action_spread"]))
  meta.setdefault("has_disagreement", np.bool_(False))
  meta["origin"] = json.dumps(dataclasses.asdict(origin)).encode()
  return {"steps": steps, "episode_metadata": meta}


def index_row(record: Mapping[str, Any]) -> dict[str, Any]:
  """The facts of one record that the index holds."""
  meta = record["episode_metadata"]
  origin = json.loads(meta["origin"])
  return {
      "id": _text(meta["episode_id"]),
      "steps": int(meta["num_steps"]),
      "frames": int(meta["num_frames"]),
      "video_hz": _hz(meta["video_hz"]),
      "control_hz": _hz(meta["control_hz"]),
      "has_state": bool(meta["has_state"]),
      "has_action": bool(meta["has_action"]),
      "success": int(meta["success"]),
      "embodiment": _text(meta["embodiment"]),
      "kind": origin["kind"],
      "kept": origin["kept"],
  }


def flat(spec: tfds.features.FeaturesDict) -> dict[str, tuple[tuple, str]]:
  """Feature names joined by "/" -> (shape, dtype name)."""
  found = {}

  def walk(node, prefix):
    if isinstance(node, tfds.features.Dataset):
      node = node.feature
    if isinstance(node, tfds.features.FeaturesDict):
      for name, child in node.items():
        walk(child, f"{prefix}/{name}" if prefix else name)
    else:
      dtype = np.dtype(node.np_dtype)
      found[prefix] = (tuple(node.shape),
                      "text" if dtype.kind in "OSU" else dtype.name)

  walk(spec, "")
  return found


def _length(episode: types.Episode, num_frames: int) -> int:
  lengths = {
      len(values)
      for values in (episode.state, episode.action, episode.spread,
                     episode.disagreement)
      if values is not None
  }
  if len(lengths) > 1:
    raise errors.DataError(
        f"State, action and spread of episode {episode.id!r} differ in "
        f"length: {sorted(lengths)}."
    )
  length = lengths.pop() if lengths else num_steps(num_frames, episode.clock)
  if length < 1 or num_frames < 1:
    raise errors.DataError(
        f"Episode {episode.id!r} is empty: {num_frames} frames, {length} "
        "steps."
    )
  return length


def _rows(episode, name, n, width) -> np.ndarray:
  """float32[n, width], zeros where the episode has none."""
  values = getattr(episode, name)
  if values is None:
    return np.zeros((n, width), np.float32)
  values = np.asarray(values, np.float32)
  if values.shape != (n, width):
    raise errors.DataError(
        f"{name} of episode {episode.id!r} has shape {list(values.shape)}; "
        f"embodiment {episode.embodiment!r} needs [{n}, {width}]."
    )
  if name != "action" and not np.isfinite(values).all():
    raise errors.DataError(
        f"{name} of episode {episode.id!r} holds values that are not finite."
    )
  return values


def _hz(value: np.float32) -> float:
  """A rate as it was before float32 rounded it."""
  return float(f"{float(value):.6g}")


def _text(value: bytes | str) -> str:
  return value.decode() if isinstance(value, bytes) else str(value)
