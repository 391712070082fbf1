"""What importers share: bad episodes are told, counted, and left out.

An importer's source has `path`, `embodiment`, `cameras`, `ids`, `clock` and
`findings` (what is odd about it), `episode(id)`, which raises `checks.Bad`, and
`fingerprint()`, JSON-able, of all that its episodes are made from.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any, Protocol

from absl import flags

from dreamgen_jax import errors, types
from dreamgen_jax.data import checks, rlds, shards, video

PROBLEMS = "dreamgen_problems.jsonl"


class Recordings(Protocol):
  """See above."""

  path: pathlib.Path
  embodiment: types.Embodiment
  cameras: Any
  ids: list[str]
  clock: types.Clock
  findings: list[str]

  def episode(self, episode_id: str) -> types.Episode:
    """One episode, whole."""

  def fingerprint(self) -> Any:
    """Changes when what is imported changes."""


@dataclasses.dataclass(frozen=True)
class Settings:
  """How an import goes: the values of the flags that `define` defines."""

  output: str
  name: str = "imported"
  on_problem: str = "skip"
  keep: tuple[str, ...] = ()
  codec: str = "h264"
  episodes_per_shard: int = 64

  def report(self) -> checks.Report:
    """With the problems that a killed run of the same import has told."""
    report = checks.Report(self.on_problem, self.keep)
    file = pathlib.Path(self.output) / PROBLEMS
    if file.exists():
      report.problems += [checks.Problem(**json.loads(line))
                          for line in file.read_text().splitlines()]
    return report


def write(source: Recordings, report: checks.Report,
          settings: Settings) -> rlds.Dataset:
  """Writes all good episodes of `source` and says what was found.

  The problems lie in the dataset's metadata, as counts, and beside it, one a
  line.

  Raises:
    DataError: no good episode, or a problem that is fatal.
  """
  print(f"{source.path}: {len(source.ids)} episodes, cameras "
        f"{list(source.cameras)}, {source.clock}")
  for finding in source.findings:
    print(f"  odd: {finding}")
  report.problems[:] = dict.fromkeys(report.problems)  # those of a killed run
  metadata: dict[str, Any] = {
      "source": source.path.name, "findings": source.findings,
      "problems": report.counts()}
  seen: dict[bytes, str] = {}
  output = pathlib.Path(settings.output)

  def make(name):
    found = _checked(source, name, report, seen)
    metadata["problems"] = report.counts()  # as they are when it is published
    _remember(output, report)
    return found

  dataset = rlds.write(
      output, settings.name, source.ids, source.embodiment,
      cameras=list(source.cameras),
      num_shards=-(-len(source.ids) // settings.episodes_per_shard),
      digest=shards.digest_of([source.fingerprint(), settings.on_problem,
                               sorted(settings.keep)]),
      metadata=metadata, make=make, codec=settings.codec)
  checks.listed(report.problems)
  frames, steps = dataset.lengths.sum(axis=0).tolist()
  skipped = len({problem.episode for problem in report.problems
                 if problem.skipped})
  print(f"{output}: {len(dataset)} episodes, {skipped} skipped, {frames} "
        f"frames, {steps} steps, digest {dataset.digest[:12]}")
  return dataset


def _checked(source, name, report, seen) -> types.Episode | None:
  """An episode, or None where it is left out."""
  try:
    found = source.episode(name)
  except errors.DataError as error:
    report.keeps(getattr(error, "kind", "truncated"), name, str(error))
    return None
  problems = []
  try:
    checks.episode(found)
  except checks.Bad as error:
    problems.append((error.kind, str(error)))
  key = _content(found)
  if seen.setdefault(key, name) != name:
    problems.append(("duplicate", f"The same as {seen[key]!r}."))
  kept = [report.keeps(kind, name, text) for kind, text in problems]
  return found if all(kept) else None


def _content(episode: types.Episode) -> bytes:
  """Digest of the numbers, and of three frames of each camera."""
  digest = hashlib.sha256(episode.instruction.encode())
  for values in (episode.state, episode.action):
    digest.update(b"" if values is None else values.tobytes())
  for _, frames in sorted(episode.video.items()):
    digest.update(str(len(frames)).encode())
    for i in (0, len(frames) // 2, -1):
      digest.update(frames[i].tobytes())
  return digest.digest()


def _remember(output: pathlib.Path, report: checks.Report) -> None:
  if report.problems:
    output.mkdir(parents=True, exist_ok=True)
    (output / PROBLEMS).write_text("".join(
        json.dumps(dataclasses.asdict(problem)) + "\n"
        for problem in report.problems))


def define(given: flags.FlagValues, name: str) -> None:
  """The flags of `Settings`; `name` is the default name of the dataset."""
  for flag, default, text in (
      ("output", None, "folder of the new dataset"),
      ("name", name, "name of the new dataset")):
    flags.DEFINE_string(flag, default, text, flag_values=given)
  define_problems(given)
  flags.DEFINE_enum(
      "codec", "h264", video.CODECS,
      "of the videos: h264 is small, jpeg fast to read in windows",
      flag_values=given)
  flags.DEFINE_integer("episodes_per_shard", 64, "episodes of one file",
                       lower_bound=1, flag_values=given)


def define_problems(given: flags.FlagValues) -> None:
  """The flags on what happens to bad episodes."""
  flags.DEFINE_enum(
      "on_problem", "skip", checks.ACTIONS, "what a bad episode does: it is "
      "skipped, or ends the import", flag_values=given)
  flags.DEFINE_list(
      "keep", [], "kinds of problems whose episodes are imported all the same: "
      + ", ".join(checks.KINDS), flag_values=given)


def settings(given: flags.FlagValues) -> Settings:
  """What the flags say."""
  values = {field.name: getattr(given, field.name)
            for field in dataclasses.fields(Settings)}
  return Settings(**values | {"keep": tuple(given.keep)})
