"""Stage: what to dream of. Start frames of any datasets, and instructions.

Every input is a dataset of one robot; its frames, the first of episodes or any
(config.when), are start frames, each with the pose that was recorded there.
Instructions come from config.templates with config.words, from the lines of
config.lists, from a language model (config.endpoint), and, with config.own,
from the episodes themselves. An image model (config.editor) may change a share
of the frames, with one of its texts each. With an input `labeler` that decodes
states, prompts are left out whose frame shows another pose than was recorded,
by more than config.pose_error of a number's range. Writes prompts, one-frame
episodes, no two of which are alike, and which verb x object x scene they cover.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from dreamgen_jax import endpoint, errors, hosts, types
from dreamgen_jax.data import catalogue, instructions, rlds
from dreamgen_jax.stages import artefact, labelers

WHEN = ("first", "any")
_ASK = ("Write {count} different instructions, one per line and nothing else, "
        "that tell a robot what to do. {about}")
_TRIES = 20  # draws per prompt before the frames count as exhausted


@dataclasses.dataclass(frozen=True)
class _Plan:
  """One prompt: a frame of an episode of an input, and what is said."""

  source: str
  number: int
  frame: int
  said: instructions.Instruction
  edit: str


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Writes `config.episodes` prompts, or as many as there can be."""
  if config.when not in WHEN:
    raise errors.ConfigError(
        f"when = {config.when!r}; have: {', '.join(WHEN)}.")
  sources = {name: catalogue.open(path / "data")
             for name, path in inputs.items() if name != "labeler"}
  robot = _robot(sources, config.cameras)
  said = _said(config, folder)
  plans = {f"prompt-{i:06d}": plan for i, plan in enumerate(
      _plans(config, sources, said))}
  seeds = {name: config.first_seed + i for i, name in enumerate(plans)}
  editor = config.get("editor") and endpoint.Endpoint(**config.editor.service)
  eye = labelers.load(inputs["labeler"], dict(
      samples=1, weights="uniform", batch_size=1)) if "labeler" in inputs else (
          None)

  def make(name: str) -> types.Episode | None:
    plan = plans[name]
    found = sources[plan.source].episode(
        plan.number, config.cameras, [plan.frame])
    frames = {camera: editor.edit(frame[0], plan.edit)[None] if plan.edit
              else frame for camera, frame in found.video.items()}
    step = int(plan.frame * found.clock.steps_per_frame + 1e-6)
    facts = {}
    if eye and found.state is not None:
      facts["pose_error"] = _pose_error(eye, frames, found.state[step])
      if facts["pose_error"] > config.pose_error:
        return None
    return dataclasses.replace(
        found, id=name, video=frames, instruction=plan.said.text,
        state=None if found.state is None else found.state[step:step + 1],
        action=None, spread=None, disagreement=None, success=None,
        origin=types.Origin(
            kind=found.origin.kind, dataset=plan.source, source_id=found.id,
            seed=seeds[name]),
        facts=facts | plan.said.words | {
            "scene": plan.edit or _scene(found, plan.source),
            "frame": plan.frame, "told_by": plan.said.source,
            "edit": plan.edit})

  made = rlds.write(
      folder / "data", folder.name, list(plans), robot,
      cameras=list(config.cameras), num_shards=min(config.shards, len(plans)),
      make=make, digest=artefact.canonical([
          config.to_dict(), [source.digest for source in sources.values()],
          [each.text for each in said], eye and eye.digest]), **hosts.team())
  covered = instructions.coverage(
      (made.episode(i, ()).facts for i in range(len(made))),
      _words(config))
  artefact.write_json(folder / "coverage.json", covered)
  hosts.say(
      f"[{folder.name}] {len(made)} prompts, {len(plans) - len(made)} left out "
      f"for their pose; {100 * covered['covered']:.0f} % "
      f"of verb x object x scene; missing: "
      f"{', '.join(covered['missing'][:3]) or 'nothing'}")
  return {"prompts": len(made), "asked": config.episodes,
          "rejected": len(plans) - len(made),
          "instructions": len(said), "coverage": covered["covered"],
          "digest": made.digest}


def _robot(sources: dict[str, Any], cameras: Any) -> types.Embodiment:
  """The robot that all inputs are of."""
  robots = [source.embodiment for source in sources.values()]
  if not robots:
    raise errors.ConfigError("Prompts need an input to take frames from.")
  for name, source in sources.items():
    if (source.embodiment.state, source.clock) != (
        robots[0].state, next(iter(sources.values())).clock):
      raise errors.ConfigError(
          f"The input {name!r} is of another robot or rate than the first.")
    missing = [camera for camera in cameras if camera not in source.cameras]
    if missing:
      raise errors.ConfigError(
          f"The input {name!r} has no camera {missing[0]!r}, only "
          f"{', '.join(source.cameras)}.")
  return robots[0]


def _said(config: Any, folder: pathlib.Path
          ) -> list[instructions.Instruction]:
  """All instructions; those of an endpoint are asked for once, and kept."""
  words = _words(config)
  found = instructions.from_templates(config.templates, words)
  for path in config.lists:
    found += instructions.from_file(path, words)
  if config.get("endpoint"):
    kept = folder / "answer.txt"
    if not kept.exists() and hosts.first():
      text = endpoint.Endpoint(**config.endpoint.service).chat(_ASK.format(
          count=config.endpoint.count, about=config.endpoint.about))
      kept.write_text(text)
    hosts.barrier()
    found += instructions.from_lines(kept.read_text(), "endpoint", words)
  if not found and not config.own:
    raise errors.ConfigError(
        "There is no instruction: give templates, lists, an endpoint, or "
        "own=True.")
  return instructions.distinct(found)


def _plans(config: Any, sources: dict[str, Any],
           said: list[instructions.Instruction]) -> Iterator[_Plan]:
  """Prompts in a reproducible order, no two alike; edits count as other frames.
  """
  rng = np.random.default_rng(config.first_seed)
  rows = [(name, i) for name, source in sources.items()
          for i in np.flatnonzero(source.index["kept"]).tolist()]
  edits = tuple(config.editor.texts) if config.get("editor") else ()
  words = _words(config)
  seen: set[str] = set()
  for _ in range(config.episodes * _TRIES):
    if len(seen) == config.episodes:
      return
    name, number = rows[rng.integers(len(rows))]
    frames = int(sources[name].index["frames"][number])
    frame = int(rng.integers(frames)) if config.when == "any" else 0
    edit = str(rng.choice(edits)) if edits and (
        rng.random() < config.editor.share) else ""
    found = sources[name].episode(number, config.cameras, [frame])
    if config.own and (not said or rng.random() < 0.5):
      told = instructions.Instruction(
          found.instruction, "episode",
          instructions.named(found.instruction, words))
    else:  # every one as often as the others
      told = said[len(seen) % len(said)]
    content = hashlib.sha256(
        f"{instructions.normal(told.text)}\0{edit}".encode())
    for camera in config.cameras:
      content.update(found.video[camera].tobytes())
    if told.text.strip() and content.hexdigest() not in seen:
      seen.add(content.hexdigest())
      yield _Plan(name, number, frame, told, edit)


def _pose_error(eye: Any, frames: dict[str, np.ndarray],
                state: np.ndarray) -> float:
  """The largest difference of a decoded state to the recorded one, in ranges.
  """
  decoded = eye.states(frames)[0]
  a, b = (eye.state_normalizer.apply(values) for values in (decoded, state))
  return float(np.max(np.abs(a - b))) / 2  # a range is 2 wide


def _words(config: Any) -> dict[str, tuple[str, ...]]:
  return {name: tuple(each) for name, each in config.words.items()}


def _scene(found: types.Episode, source: str) -> str:
  """Where an episode takes place, as far as its facts tell."""
  return str(found.facts.get("scene", source))
