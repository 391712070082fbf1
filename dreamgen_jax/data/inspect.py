"""Looks at a dataset before anything is trained on it.

  python -m dreamgen_jax.data.inspect --dataset=NAME --path=DIR [--html=FILE]
  python -m dreamgen_jax.data.inspect --path=DIR

NAME is a registered dataset, a Python file that exports DATASET, or the folder
of a dataset that this package wrote. Prints features, episodes, statistics and
every problem; the page shows sample episodes. The exit code is 1 if an episode
or a file is bad. Without a name, prints the features that there are, with the
first episode's values.
"""

import dataclasses
import hashlib
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dreamgen_jax import errors, options, types
from dreamgen_jax.data import (
    catalogue,
    checks,
    dataset,
    description,
    inspect_page,
    layout,
    normalize,
    pictures,
    ranges,
    record,
    source,
)

HELP = {
    "dataset": "name, file.py, or folder of a dataset of this package",
    "path": "folder of somebody else's dataset, if not at home",
    "index": "folder that keeps the index if the dataset's own cannot",
    "split": ("all", "train, validation or all"),
    "on_problem": ("skip", "skip or fatal"),
    "keep": ("", "kinds of problems whose episodes stay, joined by commas"),
    "html": ("", "page to write"),
    "episodes": (4, "sample episodes on the page"),
}
_FEW, _SHOWN = 3, 16  # values that are told one by one, numbers of a vector


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
  """What there is to say of a dataset.

  Attributes:
    title: its name.
    facts: name -> value, in a few words.
    features: (path, kind and shape, what it is used for).
    vectors: "state", "action" -> (keys, statistics).
    problems: what is wrong.
    samples: episodes to show, with their pictures.
  """

  title: str
  facts: dict[str, str]
  features: list[tuple[str, str, str]]
  vectors: dict[str, tuple[Sequence[types.Key], normalize.Statistics]]
  problems: list[checks.Problem]
  samples: list[types.Episode]

  @property
  def bad(self) -> bool:
    """Whether there is more than notes to the problems."""
    return any(problem.kind not in checks.NOTES for problem in self.problems)


def foreign(found: source.Source, samples: int) -> Look:
  """A look at somebody else's dataset."""
  uses: dict[str, list[str]] = {}
  for what, path in found.uses():
    uses.setdefault(path, []).append(what)
  described = found.description
  return Look(
      title=found.name,
      facts=_facts(found) | {
          "files": f"{sum(shard.found for shard in described.shards)} of "
                   f"{len(described.shards)} {described.format}",
          "folder": found.path},
      features=[(name, str(field), ", ".join(uses.get(name, [])))
                for name, field in described.fields.items()],
      vectors={name: (getattr(found.embodiment, name), value)
               for name, value in found.statistics.items()},
      problems=found.problems,
      samples=list(_samples(found, range(len(found)), samples)))


def native(found: dataset.Dataset, report: checks.Report,
           samples: int) -> Look:
  """A look at a dataset that this package wrote; every record is read."""
  good: list[int] = []
  seen: dict[str, str] = {}
  for i, name in enumerate(found.ids):
    try:
      episode = found.episode(i, cameras=found.cameras, frames=[0])
      for check in (
          lambda e=episode: checks.episode(e),
          lambda e=episode, i=i: checks.spans(
              int(found.index["frames"][i]), int(found.index["steps"][i]),
              e.clock),
          lambda e=episode: _new(e, seen)):
        check()
    except checks.Bad as error:
      if not report.keeps(error.kind, name, str(error)):
        continue
    except errors.DataError as error:
      report.keeps("truncated", name, str(error))
      continue
    good.append(i)
  vectors = {}
  if found.index["has_action"].any() or found.index["has_state"].any():
    for kind, value in normalize.compute(found).items():
      keys = getattr(found.embodiment, kind)
      vectors[kind] = keys, value
      for text in checks.constants(keys, value.min, value.max):
        report.keeps("constant", found.name,
                     f"{kind} {text} in all episodes.", skipped=False)
  spec = record.flat(record.features(found.embodiment, found.cameras))
  return Look(
      title=found.name, facts=_facts(found) | {"folder": str(found.path)},
      features=[(name, f"{dtype}{list(shape) if shape else ''}", "")
                for name, (shape, dtype) in spec.items()],
      vectors=vectors, problems=report.problems,
      samples=list(_samples(found, good, samples)))


def text(look: Look) -> Iterator[str]:
  """The look, line by line."""
  yield look.title
  for name, value in look.facts.items():
    yield f"  {name:12} {value}"
  yield "Features"
  width = max(len(name) for name, _, _ in look.features)
  for name, kind, use in look.features:
    yield f"  {name:{width}}  {kind:18} {use}".rstrip()
  for what, (keys, found) in look.vectors.items():
    yield (f"{what.capitalize():24}" + "".join(
        f"{column:>10}" for column in ("mean", "std", "min", "q01", "q99",
                                       "max")) + f"   of {found.count} steps")
    for i, name in enumerate(checks.names(keys)):
      yield f"  {name:22}" + "".join(
          f"{getattr(found, column)[i]:10.4g}" for column in (
              "mean", "std", "min", "q01", "q99", "max"))
  yield "Problems" if look.problems else "No problem was found."
  lines: list[str] = []
  checks.listed(look.problems, say=lines.append)
  yield from (f"  {line}" for line in lines)


def undeclared(found: description.Description) -> Iterator[str]:
  """What a folder holds that no layout is known for, line by line."""
  yield found.name
  yield f"  {'folder':12} {found.path}"
  for split in found.splits:
    shards = [shard for shard in found.shards if shard.split == split]
    yield (f"  {split:12} {sum(shard.count for shard in shards)} episodes in "
           f"{len(shards)} {found.format} files, "
           f"{sum(shard.found for shard in shards)} of them there")
  yield "Features, and what the first episode has of them" + (
      " (there is no features.json: as the first records look)"
      if found.guessed else "")
  first = description.first_records(found.shards, found.format)[0]
  width = max(map(len, found.fields))
  for name, field in found.fields.items():
    held = _in_short(description.numbers(field, first[name].values()),
                     field.size) if name in first else "nothing"
    yield (f"  {name:{width}}  {field!s:18} "
           f"{'per step' if field.in_steps else 'per episode':12} {held}")


def _in_short(values: Any, size: int) -> str:
  """A few words on all values of a feature, of `size` numbers each."""
  if not len(values):
    return "nothing"
  if pictures.are(values):
    height, width, _ = pictures.decode([ranges.Part.of(values[0])])[0].shape
    return f"{len(values)} pictures of {width}x{height}"
  if isinstance(values, list):
    text = values[0][:40].decode(errors="replace")
    return repr(text) if text.isprintable() else f"{len(values[0])} bytes"
  columns = values.reshape(-1, size) if size and not len(values) % size else (
      values[:, None])
  some = [np.unique(column) for column in columns.T[:_SHOWN]]
  return "; ".join(
      f"{found[0]:.4g} to {found[-1]:.4g}" if len(found) > _FEW
      else ", ".join(f"{value:.4g}" for value in found)
      for found in some) + "; ..." * (columns.shape[1] > _SHOWN)


def _facts(found: Any) -> dict[str, str]:
  steps = found.index["steps"]
  success = found.index["success"]
  seconds = float(np.sum(steps, dtype=np.int64)) / found.clock.control_hz
  known = int((success >= 0).sum())
  return {
      "embodiment": f"{found.embodiment.name}, state "
                    f"{found.embodiment.state_dim}, action "
                    f"{found.embodiment.action_dim}",
      "rates": f"video {found.clock.video_hz:g} Hz, control "
               f"{found.clock.control_hz:g} Hz",
      "cameras": ", ".join(found.cameras),
      "episodes": f"{len(found)}, of {int(steps.min())} to {int(steps.max())} "
                  f"steps, {int(np.median(steps))} in the middle",
      "time": f"{seconds / 60:.4g} minutes",
      "success": f"{int((success == 1).sum())} of {known}, "
                 f"{len(success) - known} unknown"}


def _samples(found: Any, good: Sequence[int],
             count: int) -> Iterator[types.Episode]:
  """Some good episodes, spread over all, with all their frames."""
  rows = np.linspace(0, len(good) - 1, min(count, len(good))).astype(int)
  for row in dict.fromkeys(rows.tolist()):
    yield found.episode(good[row])


def _new(episode: types.Episode, seen: dict[str, str]) -> None:
  """Raises Bad where an episode's numbers and first pictures were there."""
  content = hashlib.sha256()
  for values in (episode.state, episode.action, *episode.video.values()):
    content.update(b"-" if values is None else values.tobytes())
  content.update(episode.instruction.encode())
  first = seen.setdefault(content.hexdigest(), episode.id)
  if first != episode.id:
    raise checks.Bad("duplicate", f"It holds what {first!r} holds.")


def _open(given: Any) -> Look:
  keep = tuple(filter(None, given.keep.split(",")))
  count = given.episodes if given.html else 0
  if pathlib.Path(given.dataset).is_dir():
    return native(dataset.Dataset(given.dataset),
                  checks.Report(given.on_problem, keep), count)
  declared = catalogue.find(given.dataset)
  if isinstance(declared, layout.Native):
    if not given.path:
      raise errors.ConfigError(
          f"{given.dataset!r} is {declared.about}; give its folder (--path).")
    return native(dataset.Dataset(given.path),
                  checks.Report(given.on_problem, keep), count)
  return foreign(source.Source(
      declared, given.path or "", split=given.split, index=given.index,
      on_problem=given.on_problem, keep=keep), count)


def main(argv: Sequence[str] | None = None) -> int:
  """The program; returns the exit code."""
  argv = list(sys.argv if argv is None else argv)
  bad: list[bool] = []

  def run() -> None:
    given = options.read(
        f"{__doc__}\nRegistered: {', '.join(catalogue.names())}", HELP, argv)
    if given is None:
      return
    if given.path and not given.dataset:
      print(*undeclared(description.read(given.path)), sep="\n")
      return
    if not given.dataset:
      raise errors.ConfigError(
          "No dataset; name one, e.g. --dataset=droid --path=DIR.")
    look = _open(given)
    print(*text(look), sep="\n")
    bad.append(look.bad)
    if given.html:
      inspect_page.write(look, pathlib.Path(given.html))
      print(f"Sample episodes: {given.html}")

  return options.guard(run, debug="--debug" in argv) or int(any(bad))


if __name__ == "__main__":
  sys.exit(main())
