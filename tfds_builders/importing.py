"""What importers share: bad episodes are told, counted, and left out.

An importer's source has `path`, `embodiment`, `cameras`, `ids`, `clock` and
`findings` (what is odd about it), `episode(id)`, which raises `checks.Bad`, and
`fingerprint()`, JSON-able, of all that its episodes are made from. It is
picklable: the machines of a Beam runner have one each.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
import shlex
from collections.abc import Callable, Iterable
from typing import Any, Protocol

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
  """How an import goes: the values of the program's `options`."""

  output: str
  name: str = "imported"
  on_problem: str = "skip"
  keep: tuple[str, ...] = ()
  codec: str = "h264"
  episodes_per_shard: int = 64
  beam: str = ""

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
    ConfigError: a Beam runner is asked for, and there is no Beam.
  """
  print(f"{source.path}: {len(source.ids)} episodes, cameras "
        f"{list(source.cameras)}, {source.clock}")
  for finding in source.findings:
    print(f"  odd: {finding}")
  output = pathlib.Path(settings.output)
  plan = rlds.Plan(
      output, settings.name, tuple(source.ids), source.embodiment,
      tuple(source.cameras), -(-len(source.ids) // settings.episodes_per_shard),
      shards.digest_of([source.fingerprint(), settings.on_problem,
                        sorted(settings.keep)]), settings.codec)
  dataset = plan.finished()
  if dataset is None:
    _spread(functools.partial(_make, source, plan, settings), plan.missing(),
            settings.beam)
    _gather(plan, report)
    _remember(output, report)
    _spread(plan.shard, range(plan.num_shards), settings.beam)
    dataset = plan.publish({
        "source": source.path.name, "findings": source.findings,
        "problems": report.counts()})
  checks.listed(report.problems)
  frames, steps = dataset.lengths.sum(axis=0).tolist()
  skipped = len({problem.episode for problem in report.problems
                 if problem.skipped})
  print(f"{output}: {len(dataset)} episodes, {skipped} skipped, {frames} "
        f"frames, {steps} steps, digest {dataset.digest[:12]}")
  return dataset


def _make(source: Recordings, plan: rlds.Plan, settings: Settings,
          name: str) -> None:
  """Keeps an episode, or leaves it out; notes what is wrong, and its content.
  """
  report = checks.Report(settings.on_problem, settings.keep)
  found, content = None, ""
  try:
    found = source.episode(name)
    content = _content(found)
    checks.episode(found)
  except errors.DataError as error:
    kept = report.keeps(getattr(error, "kind", "truncated"), name, str(error))
    found = found if kept else None
  plan.keep(name, found, {"content": content, "problems": [
      dataclasses.asdict(problem) for problem in report.problems]})


def _gather(plan: rlds.Plan, report: checks.Report) -> None:
  """Takes in what was noted of episodes, and leaves out those there twice."""
  seen: dict[str, str] = {}
  for name in plan.unwritten():
    note = plan.store.note(name)
    report.problems += [checks.Problem(**each) for each in note["problems"]]
    first = seen.setdefault(note["content"], name)
    if note["content"] and first != name and not report.keeps(
        "duplicate", name, f"The same as {first!r}."):
      plan.keep(name, None, note)
  report.problems[:] = dict.fromkeys(report.problems)  # those of a killed run


def _spread(function: Callable[[Any], None], items: Iterable[Any],
            runner: str) -> None:
  """Calls a function on every item, here or on the machines of a Beam runner.

  Raises:
    ConfigError: Beam is not installed.
    DataError: a call failed.
  """
  if not runner:
    for item in items:
      function(item)
    return
  try:
    import apache_beam as beam  # an extra
    from apache_beam.options import pipeline_options
  except ImportError as error:
    raise errors.ConfigError(
        "--beam needs Apache Beam: pip install 'dreamgen_jax[beam]'."
    ) from error
  options = pipeline_options.PipelineOptions(shlex.split(runner))
  try:
    with beam.Pipeline(options=options) as pipeline:
      _ = (pipeline | beam.Create(list(items)) | beam.Reshuffle()
           | "Spread" >> beam.Map(function))
  except Exception as error:  # every runner has its own kinds
    raise errors.DataError(f"The pipeline failed: {error}") from error


def _content(episode: types.Episode) -> str:
  """Digest of the numbers, and of three frames of each camera."""
  digest = hashlib.sha256(episode.instruction.encode())
  for values in (episode.state, episode.action):
    digest.update(b"" if values is None else values.tobytes())
  for _, frames in sorted(episode.video.items()):
    digest.update(str(len(frames)).encode())
    for i in (0, len(frames) // 2, -1):
      digest.update(frames[i].tobytes())
  return digest.hexdigest()


def _remember(output: pathlib.Path, report: checks.Report) -> None:
  if report.problems:
    output.mkdir(parents=True, exist_ok=True)
    (output / PROBLEMS).write_text("".join(
        json.dumps(dataclasses.asdict(problem)) + "\n"
        for problem in report.problems))


# Options of programs, see `options.read`: on what happens to bad episodes.
PROBLEMS_OPTIONS = {
    "on_problem": ("skip", "what a bad episode does: it is skipped, or ends "
                   "the import", checks.ACTIONS),
    "keep": ((), "kinds of problems whose episodes are imported all the same: "
             + ", ".join(checks.KINDS)),
}


def options(name: str) -> dict[str, Any]:
  """Those of `Settings`; `name` is the default name of the dataset."""
  return {
      "output": "folder of the new dataset",
      "name": (name, "name of the new dataset"), **PROBLEMS_OPTIONS,
      "codec": ("h264", "of the videos: h264 is small, jpeg fast to read in "
                "windows", video.CODECS),
      "episodes_per_shard": (64, "episodes of one file", 1),
      "beam": ("", "options of an Apache Beam pipeline whose machines make the "
               "episodes, such as --beam=--runner=FlinkRunner; all of them "
               "see source and output"),
  }


def settings(given: Any) -> Settings:
  """What a program's options say."""
  values = {field.name: getattr(given, field.name)
            for field in dataclasses.fields(Settings)}
  return Settings(**values | {"keep": tuple(given.keep)})
