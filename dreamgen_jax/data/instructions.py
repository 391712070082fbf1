"""What robots are told to do: made, listed, without doubles, counted."""

import collections
import dataclasses
import itertools
import pathlib
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dreamgen_jax import errors

ASPECTS = ("verb", "object", "scene")  # of coverage


@dataclasses.dataclass(frozen=True)
class Instruction:
  """A sentence and what is known of it.

  Attributes:
    text: what the robot is told.
    source: "template", "list", "endpoint" or "episode".
    words: aspect ("verb", "object", ...) -> the word that stands for it.
  """

  text: str
  source: str
  words: dict[str, str] = dataclasses.field(default_factory=dict)


def from_templates(templates: Sequence[str],
                   words: Mapping[str, Sequence[str]]) -> list[Instruction]:
  """Every template with every combination of the words that it names.

  `from_templates(["{verb} the {object}"], dict(verb=["push", "lift"],
  object=["cup"]))` gives two.

  Raises:
    ConfigError: a template names words that there are not.
  """
  found = []
  for template in templates:
    names = [name for _, name, _, _ in string.Formatter().parse(template)
             if name is not None]
    unknown = [name for name in names if name not in words]
    if unknown:
      raise errors.ConfigError(
          f"The template {template!r} names {unknown[0]!r}; words are given "
          f"for: {', '.join(words) or 'nothing'}.")
    found += [
        Instruction(template.format(**chosen), "template", chosen)
        for each in itertools.product(*(words[name] for name in names))
        for chosen in [dict(zip(names, each, strict=True))]]
  return found


def from_lines(text: str, source: str,
               words: Mapping[str, Sequence[str]]) -> list[Instruction]:
  """One instruction per line; bullets and numbers before them are dropped."""
  lines = [re.sub(r"^\s*(?:[-*]|\d+[.)])\s+", "", line).strip().strip('"')
           for line in text.splitlines()]
  return [Instruction(line, source, named(line, words))
          for line in lines if line]


def from_file(path: str | pathlib.Path,
              words: Mapping[str, Sequence[str]]) -> list[Instruction]:
  """The lines of a text file.

  Raises:
    DataError: no such file, or nothing in it.
  """
  try:
    found = from_lines(pathlib.Path(path).read_text(), "list", words)
  except (OSError, UnicodeDecodeError) as error:
    raise errors.DataError(
        f"The list of instructions {path} cannot be read: {error}.") from error
  if not found:
    raise errors.DataError(f"The list of instructions {path} is empty.")
  return found


def named(text: str, words: Mapping[str, Sequence[str]]) -> dict[str, str]:
  """Aspect -> the longest of its words that the text holds."""
  plain = f" {normal(text)} "
  found = {}
  for aspect, known in words.items():
    held = [word for word in known if f" {normal(word)} " in plain]
    if held:
      found[aspect] = max(held, key=len)
  return found


def normal(text: str) -> str:
  """Lower case, single blanks, no punctuation: equal for doubles."""
  return " ".join(re.sub(r"[^\w\s]", " ", text.lower()).split())


def distinct(given: Iterable[Instruction]) -> list[Instruction]:
  """The first of each that say the same."""
  found: dict[str, Instruction] = {}
  for each in given:
    found.setdefault(normal(each.text), each)
  return list(found.values())


def coverage(rows: Iterable[Mapping[str, str]],
             words: Mapping[str, Sequence[str]]) -> dict[str, Any]:
  """How often each combination of verb, object and scene comes up.

  Args:
    rows: aspect -> word, of each prompt; unknown aspects are "?".
    words: what could come up; scenes are those that do.

  Returns:
    {"counts": {"verb x object x scene": n}, most frequent first, "missing":
    combinations that never come up, "covered": share of those that do}.
  """
  counts = collections.Counter(
      tuple(row.get(aspect, "?") for aspect in ASPECTS) for row in rows)
  scenes = sorted({key[2] for key in counts})
  possible = list(itertools.product(
      words.get("verb", ()) or ("?",), words.get("object", ()) or ("?",),
      scenes))
  missing = [key for key in possible if key not in counts]
  return {
      "counts": {" x ".join(key): n for key, n in counts.most_common()},
      "missing": [" x ".join(key) for key in missing],
      "covered": 1 - len(missing) / max(len(possible), 1)}
