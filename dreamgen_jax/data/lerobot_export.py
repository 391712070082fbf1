"""Writes episodes as a LeRobot folder, with GR00T's modality.json.

LeRobot has one rate, so frames are repeated or dropped to the control rate.
What LeRobot has no place for (id, origin, facts) goes under "dreamgen" into
what `meta` says of the episode, and `lerobot.Folder` reads it back. GR00T reads
v2.0 and v2.1, the lerobot package since 0.4 v3.0 (see `lerobot_export_v3`).
"""

import dataclasses
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as pq

from dreamgen_jax import errors, registry, types
from dreamgen_jax.data import (
    lerobot,
    lerobot_export_v3,
    normalize,
    record,
    resample,
    video,
)

VERSIONS = ("v2.0", "v2.1", "v3.0")
_CHUNK = 1000  # episodes per folder
_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
_VIDEO = ("videos/chunk-{episode_chunk:03d}/{video_key}/"
          "episode_{episode_index:06d}.mp4")
_COLUMNS = {"timestamp": "float32", "frame_index": "int64",
            "episode_index": "int64", "index": "int64", "task_index": "int64"}


def write(path: str | pathlib.Path, episodes: Iterable[types.Episode],
          embodiment: types.Embodiment, version: str = "v2.1") -> None:
  """Writes a folder that appears whole or not at all.

  Unknown states and actions are zeros, as in GR00T-Dreams.

  Raises:
    ConfigError: an unknown version.
    DataError: the folder exists, no episode, or cameras, sizes or rates that
      differ between episodes.
  """
  path = pathlib.Path(path)
  if version not in VERSIONS:
    raise errors.ConfigError(
        f"Unknown LeRobot version {version!r}; have: {', '.join(VERSIONS)}."
        + registry.nearest(version, list(VERSIONS)))
  if path.exists():
    raise errors.DataError(f"{path} exists already; choose another folder.")
  path.parent.mkdir(parents=True, exist_ok=True)
  staging = path.with_name(f"incomplete.{uuid.uuid4().hex}.{path.name}")
  try:
    _write(staging, episodes, embodiment, version)
    os.replace(staging, path)
  finally:
    shutil.rmtree(staging, ignore_errors=True)


def _write(root, episodes, embodiment, version) -> None:
  tasks: dict[str, int] = {}
  lines, stats, total = [], [], 0
  shapes: dict[str, list[int]] = {}
  clock = None
  sums = {"observation.state": normalize.Accumulator(embodiment.state_dim),
          "action": normalize.Accumulator(embodiment.action_dim)}
  files = (lerobot_export_v3.Files if version == "v3.0" else _Files)(root)
  for number, episode in enumerate(episodes):
    clock = clock or episode.clock
    if episode.clock != clock:
      raise errors.DataError(
          f"Episode {episode.id!r} runs at {episode.clock}, the ones before "
          f"at {clock}; resample them first."
      )
    columns, videos = _columns(episode, embodiment)
    found = {camera: list(frames.shape[1:])
             for camera, frames in videos.items()}
    shapes = shapes or found
    if found != shapes:
      raise errors.DataError(
          f"Episode {episode.id!r} has the cameras {found}, the ones before "
          f"{shapes}."
      )
    n = len(columns["action"])
    task = tasks.setdefault(episode.instruction, len(tasks))
    line = files.add(number, _table(columns, {
        "timestamp": np.arange(n, dtype=np.float32) / clock.control_hz,
        "frame_index": np.arange(n),
        "episode_index": np.full(n, number),
        "index": np.arange(total, total + n),
        "task_index": np.full(n, task),
    }), {_key(camera): video.encode(frames, clock.control_hz)
         for camera, frames in videos.items()}, clock.control_hz)
    lines.append({
        "episode_index": number, "tasks": [episode.instruction], "length": n,
        **line, lerobot.EXTRA: {
            "id": episode.id,
            "origin": dataclasses.asdict(episode.origin),
            "facts": episode.facts, "success": episode.success,
            "has_state": episode.state is not None,
            "has_action": episode.action is not None,
        },
    })
    stats.append(_stats(columns, videos))
    for name, accumulator in sums.items():
      accumulator.add(columns[name])
    total += n
  if not lines:
    raise errors.DataError("There is no episode to write.")
  quantiles = {name: accumulator.result().to_json()
               for name, accumulator in sums.items()}
  info = _info(embodiment, clock, shapes, len(lines), total, len(tasks))
  info |= {"codebase_version": version}
  files.close(info, lines, tasks, stats, _merged(stats, quantiles))
  (root / "meta" / "modality.json").write_text(
      json.dumps(_modality(embodiment, shapes), indent=2))


class _Files:
  """The files of v2: one parquet and one mp4 per camera and episode."""

  def __init__(self, root: pathlib.Path):
    self._root = root

  def add(self, number, table, videos, hz) -> dict[str, Any]:
    """Writes an episode; nothing more needs to be said of where it lies."""
    del hz
    named = {"episode_chunk": number // _CHUNK, "episode_index": number}
    for key, data in videos.items():
      file = self._root / _VIDEO.format(video_key=key, **named)
      file.parent.mkdir(parents=True, exist_ok=True)
      file.write_bytes(data)
    file = self._root / _DATA.format(**named)
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file)
    return {}

  def close(self, info, lines, tasks, stats, merged) -> None:
    """Writes `meta`."""
    meta = self._root / "meta"
    meta.mkdir()
    _lines(meta / "episodes.jsonl", lines)
    if info["codebase_version"] == "v2.0":
      (meta / "stats.json").write_text(json.dumps(merged))
    else:
      _lines(meta / "episodes_stats.jsonl", [
          {"episode_index": i, "stats": each} for i, each in enumerate(stats)])
    _lines(meta / "tasks.jsonl", [
        {"task_index": i, "task": task} for task, i in tasks.items()])
    (meta / "info.json").write_text(json.dumps(info, indent=2))


def _columns(episode, embodiment):
  """(state and action f32[n, .], camera -> u8[n, h, w, 3])."""
  made = record.steps(episode, embodiment)
  n = len(made["action"])
  videos = {}
  for camera, frames in episode.video.items():
    wanted = resample.nearest_frames(
        len(frames), episode.clock.video_hz, episode.clock.control_hz)
    # The last frame stays until the last step.
    videos[camera] = frames[wanted[np.minimum(np.arange(n), len(wanted) - 1)]]
  return {"observation.state": made["observation"]["state"],
          "action": made["action"]}, videos


def _table(columns, counters) -> pyarrow.Table:
  arrays = {
      name: pyarrow.array(list(values), pyarrow.list_(pyarrow.float32()))
      for name, values in columns.items()
  }
  for name, dtype in _COLUMNS.items():
    arrays[name] = pyarrow.array(counters[name].astype(dtype))
  return pyarrow.table(arrays)


def _stats(columns, videos) -> dict[str, Any]:
  """Per column as LeRobot keeps them; images per channel in [0, 1]."""
  stats = {}
  for name, values in columns.items():
    stats[name] = _moments(values.astype(np.float64), 0, len(values))
  for camera, frames in videos.items():
    moments = _moments(frames / 255.0, (0, 1, 2), len(frames))
    stats[_key(camera)] = {
        name: value if name == "count" else [[[x]] for x in value]
        for name, value in moments.items()
    }
  return stats


def _moments(values, axes, count) -> dict[str, list]:
  return {
      "min": values.min(axes).tolist(), "max": values.max(axes).tolist(),
      "mean": values.mean(axes).tolist(), "std": values.std(axes).tolist(),
      "count": [count],
  }


def _merged(stats, quantiles) -> dict[str, Any]:
  """Statistics of all episodes together from those of each."""
  merged = {}
  for name in stats[0]:
    each = [episode[name] for episode in stats]
    count = np.array([one["count"][0] for one in each], np.float64)
    share = count / count.sum()
    mean, std = (np.array([one[what] for one in each])
                 for what in ("mean", "std"))
    total = np.tensordot(share, mean, 1)
    spread = np.tensordot(share, std**2 + (mean - total) ** 2, 1)
    merged[name] = {
        "min": np.min([one["min"] for one in each], 0).tolist(),
        "max": np.max([one["max"] for one in each], 0).tolist(),
        "mean": total.tolist(), "std": np.sqrt(spread).tolist(),
        "count": [int(count.sum())],
        **{which: quantiles[name][which] for which in ("q01", "q99")
           if name in quantiles},
    }
  return merged


def _info(embodiment, clock, shapes, episodes, frames, tasks):
  features = {
      name: {"dtype": "float32", "shape": [sum(key.dims for key in keys)],
             "names": [f"{key.name}_{i}" for key in keys
                       for i in range(key.dims)]}
      for name, keys in (("observation.state", embodiment.state),
                         ("action", embodiment.action))
  }
  for name, dtype in _COLUMNS.items():
    features[name] = {"dtype": dtype, "shape": [1], "names": None}
  for camera, shape in shapes.items():
    features[_key(camera)] = {
        "dtype": "video", "shape": shape,
        "names": ["height", "width", "channels"],
        "info": {"video.fps": clock.control_hz, "video.codec": "h264",
                 "video.height": shape[0], "video.width": shape[1],
                 "video.channels": 3, "video.is_depth_map": False,
                 "has_audio": False},
    }
  return {
      "robot_type": embodiment.name,
      "total_episodes": episodes, "total_frames": frames,
      "total_tasks": tasks, "total_videos": episodes * len(shapes),
      "total_chunks": -(-episodes // _CHUNK), "chunks_size": _CHUNK,
      "fps": clock.control_hz, "splits": {"train": f"0:{episodes}"},
      "data_path": _DATA, "video_path": _VIDEO, "features": features,
  }


def _modality(embodiment, shapes):
  groups = {}
  for name in ("state", "action"):
    start, group = 0, {}
    for key in getattr(embodiment, name):
      group[key.name] = {"start": start, "end": start + key.dims,
                         "absolute": key.absolute}
      start += key.dims
    groups[name] = group
  return {
      **groups,
      "video": {camera: {"original_key": _key(camera)} for camera in shapes},
      "annotation": {"human.task_description": {"original_key": "task_index"}},
  }


def _key(camera: str) -> str:
  return f"observation.images.{camera}"


def _lines(path: pathlib.Path, values: list[dict[str, Any]]) -> None:
  path.write_text("".join(json.dumps(value) + "\n" for value in values))
