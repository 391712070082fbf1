"""Judges as stages find them: built from a config's `judges` section.

  judges = dict(sure=dict(name="certainty", keep=0.7, kw=dict(quantile=0.9)),
                real=dict(name="forward", at_least=0.2))

The key names the score, `name` the module; `keep` is the share of episodes
that are kept by rank, `at_least` a threshold. Without either a judge scores
and rejects nothing.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dreamgen_jax import errors, interfaces, registry, types

_WORDS = {"name", "keep", "at_least", "kw"}


def build(spec: Mapping[str, Any],
          tools: Mapping[str, Callable[[], Any]]) -> interfaces.Judge:
  """One judge.

  Args:
    spec: name and, perhaps, kw.
    tools: field -> function that makes what the stage knows of it; called only
      for the fields that the judge has.

  Raises:
    ConfigError: an unknown judge or option; says which there are.
  """
  unknown = sorted(set(spec) - _WORDS)
  if unknown:
    raise errors.ConfigError(
        f"A judge has no option {unknown[0]!r}; have: "
        f"{', '.join(sorted(_WORDS))}.")
  made = registry.find("judges", spec["name"]).Judge
  fields = [field.name for field in dataclasses.fields(made)]
  own = [name for name in fields if name not in tools]
  for name in spec.get("kw", {}):
    if name not in own:
      raise errors.ConfigError(
          f"The judge {spec['name']!r} has no option {name!r}; have: "
          f"{', '.join(own) or 'none'}." + registry.nearest(name, own))
  return made(**spec.get("kw", {}), **{
      name: tools[name]() for name in fields if name in tools})


def decide(verdicts: Mapping[str, Sequence[types.Verdict]],
           rules: Mapping[str, Mapping[str, Any]],
           candidates: Sequence[bool]) -> tuple[list[str], dict[str, Any]]:
  """Who is rejected, and why.

  An episode is kept if every judge keeps it. Each ranks all candidates by
  itself, so the order of judges does not matter; of equal scores the episode
  that comes first is kept. A score that is no number is below every other.

  Args:
    verdicts: score's name -> one verdict per episode.
    rules: score's name -> `keep` and `at_least`, see above.
    candidates: which episodes had not been rejected before.

  Returns:
    (reason per episode, "" for kept, {name: {"bar": lowest score kept,
    "rejected": count}}).

  Raises:
    ConfigError: a keep-rate outside (0, 1].
  """
  reasons: list[list[str]] = [[] for _ in candidates]
  table = {}
  for name, found in verdicts.items():
    keep = rules[name].get("keep", 1.0)
    if not 0 < keep <= 1:
      raise errors.ConfigError(
          f"The judge {name!r} cannot keep {keep} of all episodes; give a "
          "share in (0, 1].")
    scores = [-math.inf if math.isnan(each.score) else each.score
              for each in found]
    order = sorted((i for i, free in enumerate(candidates) if free),
                   key=lambda i: -scores[i])
    best = set(order[:round(keep * len(order))])
    bar = rules[name].get("at_least", -math.inf)
    kept = [i for i in order if i in best and scores[i] >= bar]
    for i in set(order) - set(kept):
      why = (f"below {bar:g}" if scores[i] < bar
             else f"not of the best {keep:.0%}")
      reasons[i].append(
          f"{name} {found[i].score:.3f} is {why}: {found[i].reason}")
    table[name] = {
        "bar": min((scores[i] for i in kept), default=None),
        "rejected": len(order) - len(kept)}
  return ["; ".join(each) for each in reasons], table
