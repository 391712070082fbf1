"""Imports HDF5 demonstrations of robomimic or RoboCasa; needs h5py.

  python -m tfds_builders.robomimic.build --source=demo.hdf5
      --layout=robocasa --output=DIR

A layout (`layouts.py`) says which arrays hold what. The instruction is that of
RoboCasa's `ep_meta`; robomimic's own files have none: give --instruction.
"""

import json
import pathlib
import re
import sys
from typing import Any

import numpy as np

from dreamgen_jax import errors, options, registry, types
from dreamgen_jax.data import checks, columns, rlds
from dreamgen_jax.data import layout as layout_lib
from tfds_builders import importing
from tfds_builders.robomimic import layouts


class Demonstrations:
  """The demonstrations of one file; see `importing.Recordings`."""

  def __init__(self, path: str | pathlib.Path, given: layout_lib.Layout,
               instruction: str = ""):
    """Lists what the file holds.

    Raises:
      ConfigError: h5py is not installed.
      DataError: no such file, or no demonstration in it.
    """
    try:
      import h5py  # an extra
    except ImportError as error:
      raise errors.ConfigError(
          "Reading HDF5 needs h5py: pip install 'dreamgen_jax[hdf5]'."
      ) from error
    self.path, self._layout = pathlib.Path(path), given
    self._instruction = instruction
    self.embodiment = given.embodiment
    self.cameras, self.clock = list(given.cameras), given.embodiment.clock
    try:
      self._file = h5py.File(path)
      self._data = self._file["data"]
    except (OSError, KeyError) as error:
      raise errors.DataError(
          f"{path} is no file of demonstrations: {error}.") from error
    self._names = {f"{self.path.stem}-{name}": name for name in sorted(
        self._data, key=lambda name: [
            int(part) if part.isdigit() else part
            for part in re.split(r"(\d+)", name)])}
    self.ids = list(self._names)
    if not self.ids:
      raise errors.DataError(f"{path} holds no demonstration.")
    self.findings = self._told_clock()

  def __reduce__(self):
    return type(self), (self.path, self._layout, self._instruction)

  def episode(self, episode_id: str) -> types.Episode:
    """Reads one demonstration.

    Raises:
      Bad: an array is missing, truncated, or of another length.
    """
    demo = self._data[self._names[episode_id]]
    robot = self.embodiment

    def read(path):
      try:
        return demo[path][()].reshape(len(demo[path]), -1)
      except KeyError as error:
        raise checks.Bad(
            "features", f"It has no array {path!r}.") from error
      except OSError as error:
        raise checks.Bad("truncated", f"{path!r}: {error}.") from error

    lengths: dict[str, int] = {}
    vectors = {}
    for kind in ("state", "action"):
      found = self._layout.columns(kind)
      for each in found.values():
        lengths |= {column.feature: len(read(column.feature))
                    for column in each}
      try:
        checks.same_length(lengths)
        vectors[kind] = columns.vector(
            found, getattr(robot, kind), read) if found else None
      except checks.Bad:
        raise
      except errors.DataError as error:
        raise checks.Bad("nan", str(error)) from error
    videos = {}
    for camera, path in self._layout.cameras.items():
      frames = read(path)
      videos[camera] = frames.reshape(demo[path].shape).astype(np.uint8)
      lengths[path] = len(frames)
    checks.same_length(lengths)
    success = self._layout.success
    return types.Episode(
        id=episode_id, video=videos, instruction=self._text(demo),
        embodiment=robot.name, clock=self.clock,
        origin=types.Origin("sim", dataset=self.path.name),
        state=vectors["state"], action=vectors["action"],
        success=bool(read(success)[-1].any()) if success else None,
        facts={"source_id": self._names[episode_id]})

  def fingerprint(self) -> Any:
    """Name, size and time of the file, and what is made of it."""
    stat = self.path.stat()
    return [self.path.name, stat.st_size, stat.st_mtime_ns,
            self._layout.to_json(), self._instruction]

  def _text(self, demo) -> str:
    meta = json.loads(demo.attrs.get("ep_meta", "{}"))
    return str(meta.get("lang") or self._instruction).strip()

  def _told_clock(self) -> list[str]:
    """What contradicts the layout's rate."""
    settings = json.loads(self._data.attrs.get("env_args", "{}"))
    told = settings.get("env_kwargs", {}).get("control_freq")
    if told in (None, self.clock.control_hz):
      return []
    return [f"The file says {told:g} Hz, the layout "
            f"{self.clock.control_hz:g} Hz."]


def build(source: str, layout: str, settings: importing.Settings,
          instruction: str = "") -> rlds.Dataset:
  """Writes the file `source` as a dataset of episodes.

  Raises:
    DataError: nothing usable in the file, or a problem that is fatal.
    ConfigError: unknown layout.
  """
  if layout not in layouts.LAYOUTS:
    raise errors.ConfigError(
        f"Unknown layout {layout!r}; have: {', '.join(layouts.LAYOUTS)}."
        + registry.nearest(layout, list(layouts.LAYOUTS)))
  return importing.write(
      Demonstrations(source, layouts.LAYOUTS[layout], instruction),
      settings.report(), settings)


@options.program(__doc__, {
    "source": "the .hdf5 file",
    "layout": "one of layouts.py: " + ", ".join(layouts.LAYOUTS),
    "instruction": ("", "of all demonstrations, where the file has none"),
    **importing.options("robomimic"),
}, required=("source", "layout", "output"))
def main(given: Any) -> None:
  """Runs the program."""
  build(given.source, given.layout, importing.settings(given),
        given.instruction)


if __name__ == "__main__":
  sys.exit(main())
