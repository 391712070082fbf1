"""Stage: one HTML page that shows how the result came about.

`config.headline` says what comes first: the rate of a `policy` at a `task`,
beside those of others, `against`. `config.upper` names policies that had true
actions of all verbs; `config.names` calls policies by other names.
"""

import pathlib
from typing import Any

import jax
import numpy as np

from dreamgen_jax import metrics, report, runtime
from dreamgen_jax.data import rlds, video
from dreamgen_jax.report import content
from dreamgen_jax.stages import artefact

_NAMES = {"noop": "no-op", "neural": "dreams only",
          "mixed": "dreams + demonstrations", "demos": "demonstrations only",
          "oracle": "expert data of all verbs"}
_TASKS = {"novel": "verbs nobody demonstrated", "all": "all verbs"}
_NOTES = {"noop": "holds still", "neural": "neural trajectories only",
          "mixed": "neural and real, 1:1", "demos": "what was demonstrated",
          "oracle": "true actions of every verb: an upper bound"}

ALONE = True  # one host does it


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Gathers the stages' records into `report.html` of the workdir."""
  records = {name: artefact.read_json(path / artefact.DONE)
             for name, path in inputs.items()}
  workdir = folder.parent
  started = artefact.read_json(workdir / artefact.RUN)
  facts = {name: record["metrics"] for name, record in records.items()}
  trials = artefact.read_json(inputs["evaluation"] / "trials.json")["trials"]
  table = facts["evaluation"]["table"]
  novel = list(config.novel)
  names = _NAMES | dict(config.get("names") or {})
  verbs = {row["verb"] for row in trials}
  page = content.Report(
      title="What the robot dreamed, and what it learnt from it",
      subtitle=(
          f"{facts['demonstrations']['episodes']} demonstrations of one skill; "
          f"{facts['dreams']['dreams']} dreams of {len(verbs)}."),
      headlines=_headlines(facts, table, config.headline, names),
      success=_success(trials, novel, names),
      dreams=_dreams(inputs, config, facts),
      dreams_note=(
          "Start frames are new resets of the simulator. Below, held-out "
          "demonstrations beside what the model makes of their first frame; "
          f"PSNR of the future frames: {facts['finetune']['psnr_tuned']:.1f} "
          f"dB tuned, {facts['finetune']['psnr_prior']:.1f} dB untuned, "
          f"{facts['finetune']['psnr_repeat']:.1f} dB for a still picture."
          + _filtered(facts)),
      labels=_labels(inputs, facts),
      evaluations=_evaluations(
          inputs["evaluation"], trials, novel, config, names),
      honesty=_honesty(facts, table, config, names),
      curves=[
          _curve(name, inputs[name]) for name in inputs
          if (inputs[name] / "history.jsonl").exists()],
      run=content.Run(
          command=" ".join(started["command"]), machine=runtime.machine(),
          started=started["started"], versions=runtime.versions(),
          stages=[content.Stage(name, record["seconds"], record["key"][:12])
                  for name, record in records.items()],
          hashes={f"{name} data": value["digest"][:16]
                  for name, value in facts.items() if "digest" in value},
          config=started["config"]))
  report.build(page, workdir / "report.html")
  print(f"[report] {workdir / 'report.html'}", flush=True)
  return {"bytes": (workdir / "report.html").stat().st_size}


def _share(cell: dict[str, Any]) -> str:
  return f"{100 * cell['successes'] / cell['trials']:.0f} %"


def _headlines(facts: dict[str, Any], table: dict[str, Any], first: Any,
               names: dict[str, str]) -> list[content.Headline]:
  found = [content.Headline(
      _share(table[first.policy][first.task]),
      f"success on {_TASKS[first.task]}: {names[first.policy]}",
      "; ".join(f"{names[name]}: {_share(table[name][first.task])}"
                for name in first.against))]
  tuned, still = (facts["finetune"][f"psnr_{name}"]
                  for name in ("tuned", "repeat"))
  found.append(content.Headline(
      f"{tuned - still:+.1f} dB", "future frames, against a still picture",
      f"untuned prior {facts['finetune']['psnr_prior'] - still:+.1f} dB"))
  replayed = facts["label_check"]["replay_labels"]
  found.append(content.Headline(
      _share(replayed), "of held-out demonstrations succeed again when their "
      "decoded actions are replayed", f"{replayed['trials']} episodes"))
  return found


def _success(trials: list[dict[str, Any]], novel: list[str],
             names: dict[str, str]) -> content.Success:
  policies = {}
  for row in trials:
    policies.setdefault(row["policy"], {}).setdefault(
        row["verb"], []).append(row["success"])
  seeds = sorted({row["seed"] for row in trials})
  return content.Success(
      policies=[content.Policy(names[name], found, _NOTES.get(name, ""))
                for name, found in policies.items()],
      novel=novel, seeds=seeds,
      note="Success is decided on the simulator's state and must hold for two "
      "steps; intervals are Wilson's, 95 %.")


def _dreams(inputs: dict[str, pathlib.Path], config: Any,
            facts: dict[str, Any]) -> list[content.Clip]:
  dreams = rlds.Dataset(inputs["dreams"] / "data")
  judged = rlds.Dataset(inputs["kept"] / "data") if "kept" in inputs else None
  clips, seen = [], {}
  for i in range(len(dreams)):
    verb = dreams.episode(i, ()).facts["verb"]
    if seen.setdefault(verb, 0) < config.dreams_per_verb:
      seen[verb] += 1
      episode = dreams.episode(i)
      said = judged and judged.episode(judged.position(episode.id), ()).origin
      clips.append(content.Clip(
          [content.Pane("dreamed", episode.video[config.camera])],
          episode.clock.video_hz, episode.instruction, verb,
          episode.origin.seed, said.reason or "kept" if said else "",
          verb in config.novel))
  with np.load(inputs["finetune"] / "examples.npz") as held:
    clips += [
        content.Clip(
            [content.Pane(label, held[name][i]) for label, name in
             (("real", "truth"), ("dreamed", "tuned"), ("untuned", "prior"))],
            dreams.clock.video_hz, str(held["captions"][i]), "held out", i)
        for i in range(min(4, len(held["truth"])))]
  return sorted(clips, key=lambda clip: clip.novel, reverse=True)


def _filtered(facts: dict[str, Any]) -> str:
  """What became of the dreams' labels."""
  text = ""
  if "kept" in facts:
    kept = facts["kept"]
    reasons = ", ".join(
        f"{reason} {count}" for reason, count in kept["rejected"].items())
    text += (f" The filter keeps {kept['kept']} of {kept['episodes']} dreams"
             + (f" (rejected for {reasons})." if reasons else "."))
  if "dream_check" in facts:
    check = facts["dream_check"]
    parts = [f"{cell['successes']} of {cell['trials']} {words}"
             for name, words in (
                 ("labels", "in all"), ("kept", "of those kept"))
             if (cell := check.get(f"replay_{name}"))]
    text += (" Executed in the simulator, the dreams' labels do what was asked "
             f"in {', '.join(parts)}.")
  return text


def _labels(inputs: dict[str, pathlib.Path],
            facts: dict[str, Any]) -> content.Labels:
  check = facts["label_check"]
  heldout = rlds.Dataset(inputs["heldout"] / "data")
  names = [f"{key.name}[{i}]" if key.dims > 1 else key.name
           for key in heldout.embodiment.action for i in range(key.dims)]
  with np.load(inputs["label_check"] / "actions.npz") as held:
    bounds = np.cumsum(held["lengths"])[:3]
    episodes = [
        content.Labelled(
            f"held-out episode {number + 1}", heldout.clock.control_hz,
            [content.Trace(name, held["truth"][begin:end, i].tolist(),
                           held["labels"][begin:end, i].tolist(),
                           held["spread"][begin:end, i].tolist())
             for i, name in enumerate(names)])
        for number, (begin, end) in enumerate(
            zip([0, *bounds[:-1]], bounds, strict=True))]
  return content.Labels(
      fits=[content.Fit(name, r2, check["rmse"][name])
            for name, r2 in check["r2"].items()],
      episodes=episodes,
      note="; ".join(f"{name}: {100 * share:.1f} % right"
                     for name, share in check["accuracy"].items()))


def _evaluations(path: pathlib.Path, trials: list[dict[str, Any]],
                 novel: list[str], config: Any,
                 names: dict[str, str]) -> list[content.Clip]:
  outcome = {}
  for row in trials:
    outcome.setdefault((row["policy"], row["verb"]), []).append(row)
  clips = []
  for (policy, verb), rows in outcome.items():
    shown = {True: 0, False: 0}
    for i, row in enumerate(rows):
      file = path / f"{policy}-{verb}-{i}.mp4"
      if policy != "noop" and file.exists() and (
          shown[row["success"]] < config.evaluations_per_task):
        shown[row["success"]] += 1
        clips.append(content.Clip(
            [content.Pane(names[policy], video.decode(file.read_bytes()))],
            config.video_hz, row["instruction"], verb, row["seed"],
            "success" if row["success"] else "failure", verb in novel))
  return sorted(clips, key=lambda clip: clip.note != "success")


def _curve(name: str, path: pathlib.Path) -> content.Curve:
  rows = metrics.read(path / "history.jsonl")
  lines = {}
  for row in rows:
    if "loss" in row:
      lines.setdefault("loss", []).append((row["step"], row["loss"]))
  return content.Curve(name, [
      content.Series(label, [x for x, _ in points], [y for _, y in points])
      for label, points in lines.items()], log=True)


def _honesty(facts: dict[str, Any], table: dict[str, Any], config: Any,
             names: dict[str, str]) -> content.Honesty:
  """Names the stages that fall short of what they need."""
  check = facts["label_check"]
  gain = facts["finetune"]["psnr_tuned"] - facts["finetune"]["psnr_repeat"]
  replayed = check["replay_labels"]
  worst = min(check["r2"], key=check["r2"].get)
  links = [
      (gain < 3, f"The world model: its future frames are only {gain:+.1f} dB "
       "better than a still picture (3 dB are wanted)."),
      (check["r2"][worst] < 0.8, f"The labeler: R2 of {worst} is "
       f"{check['r2'][worst]:.2f} (0.8 is wanted)."),
      (replayed["successes"] < 0.6 * replayed["trials"],
       f"The labels: {_share(replayed)} of replays succeed (60 % are "
       "wanted)."),
  ]
  if "dream_check" in facts:
    check = facts["dream_check"]
    dreamed = check.get("replay_kept", check["replay_labels"])
    links.append((
        2 * dreamed["low"] < replayed["low"],
        f"The dreams: executed in the simulator, labels of {_share(dreamed)} "
        f"of them do what was asked, those of {_share(replayed)} of "
        "recordings."))
  task = config.headline.task
  for cell, name in ((table[name][task], names[name]) for name in config.upper):
    links.append((
        cell["successes"] < 0.6 * cell["trials"],
        f"The policy: even with true actions of every verb ({name}) it "
        f"succeeds in {_share(cell)} of trials."))
  weak = [text for short, text in links if short] or [
      "Between dream and policy: every stage meets its own mark on held-out "
      "data, so what is lost is lost where dreams differ from the real thing."]
  return content.Honesty(
      weakest=" ".join(weak),
      notes=[
          f"Backend {jax.default_backend()}; one training seed per policy.",
          "The world model was pretrained on other robots in other rooms; it "
          "had seen every verb, but never this robot doing it.",
          "A hand that sweeps over the table succeeds at some verbs by "
          "chance; compare with the demonstrations-only policy."])
