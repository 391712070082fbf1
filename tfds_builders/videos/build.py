"""Imports plain videos: videos/NAME.mp4 with metas/NAME.txt (Cosmos).

  python -m tfds_builders.videos.build --source=DIR --embodiment=gr1
      --output=DIR

Several cameras lie in videos/CAMERA/NAME.mp4. Texts are also looked for in
labels/NAME.txt (GR00T-Dreams). Episodes have no states and no actions.
"""

import collections
import pathlib
import sys
from typing import Any

from dreamgen_jax import errors, options, registry, types
from dreamgen_jax.data import checks, rlds, video
from tfds_builders import importing

_TEXTS = ("metas", "labels")
KINDS = ("robot", "sim", "dream")


class Folder:
  """Videos and their texts; see `importing.Recordings`."""

  def __init__(self, path: str | pathlib.Path, embodiment: types.Embodiment,
               report: checks.Report, kind: str = "robot"):
    """Looks at all files; decodes nothing.

    Raises:
      DataError: no video of the embodiment's cameras.
    """
    self.path, self.embodiment = pathlib.Path(path), embodiment
    self.findings: list[str] = []
    self._kind = kind
    self._files = self._find()
    self.cameras = list(self._files)
    rates: dict[str, float] = {}
    names = dict.fromkeys(
        name for files in self._files.values() for name in files)
    for name in names:
      try:
        rates[name] = self._look_at(name)
      except errors.DataError as error:
        report.keeps(getattr(error, "kind", "truncated"), name, str(error))
    if not rates:
      raise errors.DataError(" ".join([
          f"No video in {self.path} can be read.",
          *map(str, report.problems)]))
    hz = collections.Counter(rates.values()).most_common(1)[0][0]
    self.clock = types.Clock(hz, embodiment.clock.control_hz)
    self.ids = [name for name, rate in rates.items() if rate == hz or (
        report.keeps("clock", name, f"It has {rate:g} frames a second, most "
                     f"have {hz:g}."))]

  def episode(self, episode_id: str) -> types.Episode:
    """Decodes one episode.

    Raises:
      DataError: a damaged video, or cameras of different length.
    """
    videos = {camera: video.decode(files[episode_id])
              for camera, files in self._files.items()}
    checks.same_length(
        {camera: len(frames) for camera, frames in videos.items()})
    return types.Episode(
        id=episode_id, video=videos, instruction=self._text(episode_id),
        embodiment=self.embodiment.name, clock=self.clock,
        origin=types.Origin(self._kind, dataset=self.path.name))

  def fingerprint(self) -> Any:
    """Name, size and time of every file."""
    return [self._kind, sorted(
        [str(file.relative_to(self.path)), file.stat().st_size,
         file.stat().st_mtime_ns]
        for folder in ("videos", *_TEXTS)
        for file in (self.path / folder).rglob("*") if file.is_file())]

  def _find(self) -> dict[str, dict[str, pathlib.Path]]:
    """Camera -> name -> file."""
    root, cameras = self.path / "videos", list(self.embodiment.cameras)
    found = {camera: _videos(root / camera) for camera in cameras}
    found = {camera: files for camera, files in found.items() if files}
    plain = _videos(root)
    if not found and plain:
      found = {cameras[0]: plain}
    if not found:
      raise errors.DataError(
          f"{root} holds no mp4 files, neither itself nor in folders named "
          f"{' or '.join(cameras)}.")
    return found

  def _look_at(self, name: str) -> float:
    """The rate of an episode's videos."""
    seen = {}
    for camera, files in self._files.items():
      if name not in files:
        raise checks.Bad("missing", f"It has no video of camera {camera!r}.")
      seen[camera] = video.probe(files[name])
    checks.same_length({camera: frames for camera, (frames, *_) in seen.items()
                        if frames})
    rates = {round(hz, 3) for _, hz, _, _ in seen.values()}
    if len(rates) > 1:
      raise checks.Bad("clock", f"Its cameras have different rates {rates}.")
    return rates.pop()

  def _text(self, name: str) -> str:
    for folder in _TEXTS:
      file = self.path / folder / f"{name}.txt"
      if file.exists():
        return " ".join(file.read_text().split())
    return ""


def _videos(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  return {file.stem: file for file in sorted(folder.glob("*.mp4"))}


def export(dataset: rlds.Dataset, path: str | pathlib.Path) -> None:
  """Writes the first camera of every episode as such a folder.

  Raises:
    DataError: the folder exists.
  """
  path = pathlib.Path(path)
  if path.exists():
    raise errors.DataError(f"{path} exists already; choose another folder.")
  for folder in ("videos", "metas"):
    (path / folder).mkdir(parents=True)
  for i, name in enumerate(dataset.ids):
    episode = dataset.episode(i, dataset.cameras[:1])
    (path / "videos" / f"{name}.mp4").write_bytes(video.encode(
        episode.video[dataset.cameras[0]], episode.clock.video_hz))
    (path / "metas" / f"{name}.txt").write_text(episode.instruction + "\n")


def build(source: str, embodiment: str, settings: importing.Settings,
          kind: str = "robot") -> rlds.Dataset:
  """Writes the folder `source` as a dataset of episodes.

  Raises:
    DataError: nothing usable in the folder, or a problem that is fatal.
    ConfigError: unknown embodiment.
  """
  robot = registry.find("embodiments", embodiment).EMBODIMENT
  report = settings.report()
  return importing.write(Folder(source, robot, report, kind), report, settings)


@options.program(__doc__, {
    "source": "the folder that holds videos/ and metas/",
    "embodiment": "a module of dreamgen_jax/embodiments, e.g. gr1",
    "kind": ("robot", "where the videos come from", KINDS),
    **importing.options("videos"),
}, required=("source", "embodiment", "output"))
def main(given: Any) -> None:
  """Runs the program."""
  build(given.source, given.embodiment, importing.settings(given), given.kind)


if __name__ == "__main__":
  sys.exit(main())
