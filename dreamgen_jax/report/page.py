"""Report -> one HTML file that needs nothing but a browser."""

import base64
import html
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dreamgen_jax import statistics
from dreamgen_jax.data import video
from dreamgen_jax.report import content as content_lib
from dreamgen_jax.report import look, svg

SHOWN_HEIGHT = 256  # small frames are enlarged to about this, pixel by pixel
GAP = 8  # between the panes of a clip
GREY = 128


def build(content: content_lib.Report | Mapping[str, Any],
          path: pathlib.Path) -> pathlib.Path:
  """Writes the report.

  Args:
    content: see `content.Report`; a plain nested dict of its fields will do.
    path: of the HTML file; replaced whole.

  Returns:
    The path.

  Raises:
    DataError: the content is not of the form that `content` describes.
  """
  if isinstance(content, content_lib.Report):
    content_lib.check(report := content)
  else:
    report = content_lib.read(content)
  path = pathlib.Path(path)
  partial = path.with_name(path.name + ".partial")
  partial.write_text(page(report), encoding="utf-8")
  partial.replace(path)
  return path


def page(report: content_lib.Report) -> str:
  """The whole page as text."""
  sections = [
      ("success", "Success in the simulator", _success(report.success)),
      ("dreams", "Dreams", _dreams(report)),
      ("actions", "Actions decoded from video", _labels(report.labels)),
      ("trials", "What the policies do", _clips(report.evaluations)),
      ("limits", "What to keep in mind", _honesty(report.honesty)),
      ("training", "Training", _curves(report.curves)),
      ("run", "What was run", _run(report.run)),
  ]
  sections = [section for section in sections if section[2]]
  links = "".join(f'<a href="#{anchor}">{title}</a>'
                  for anchor, title, _ in sections)
  body = "".join(f'<section><h2 id="{anchor}">{title}</h2>{text}</section>'
                 for anchor, title, text in sections)
  subtitle = _paragraph(report.subtitle, "subtitle")
  started = f" on {_safe(report.run.started)}" if report.run.started else ""
  return (
      '<!doctype html><html lang="en"><head><meta charset="utf-8">'
      '<meta name="viewport" content="width=device-width, initial-scale=1">'
      '<link rel="icon" href="data:,">'
      f"<title>{_safe(report.title)}</title><style>{look.STYLE}</style></head>"
      f"<body><header><h1>{_safe(report.title)}</h1>{subtitle}"
      f"{_headlines(report.headlines)}<nav>{links}</nav></header>"
      f"<main>{body}</main><footer>Made by dreamgen_jax{started}. Everything "
      "on this page is inside this one file.</footer>"
      f"<script>{look.SCRIPT}</script></body></html>\n"
  )


def enlarge(panes: Sequence[content_lib.Pane]) -> np.ndarray:
  """Panes side by side, small ones enlarged by whole pixels.

  Browsers play only halved colour resolution; enlarging first keeps it from
  smearing. Sides are made even, which that format needs.

  Returns:
    uint8[f, h, w, 3].
  """
  frames = [np.asarray(pane.frames) for pane in panes]
  length = max(len(pane) for pane in frames)
  factor = max(1, round(SHOWN_HEIGHT / frames[0].shape[1]))
  parts = []
  for pane in frames:
    held = pane[np.minimum(np.arange(length), len(pane) - 1)]
    big = held.repeat(factor, axis=1).repeat(factor, axis=2)
    even = [side % 2 for side in big.shape[1:3]]
    big = np.pad(big, ((0, 0), (0, even[0]), (0, even[1]), (0, 0)), "edge")
    if parts:
      parts.append(np.full((*big.shape[:2], GAP, 3), GREY, np.uint8))
    parts.append(big)
  return np.concatenate(parts, axis=2)


def duration(seconds: float) -> str:
  """"3 min 20 s": two units at most."""
  seconds = round(seconds) if seconds >= 10 else round(seconds, 1)
  if seconds < 60:
    return f"{seconds:g} s"
  minutes, rest = divmod(round(seconds), 60)
  if minutes < 60:
    return f"{minutes} min {rest} s"
  return f"{minutes // 60} h {minutes % 60} min"


def _safe(text: Any) -> str:
  return html.escape(str(text))


def _paragraph(text: str, kind: str = "") -> str:
  mark = f' class="{kind}"' if kind else ""
  return f"<p{mark}>{_safe(text)}</p>" if text else ""


def _headlines(headlines: Sequence[content_lib.Headline]) -> str:
  cards = "".join(
      f'<div class="card"><div class="value">{_safe(one.value)}</div>'
      f'<div class="label">{_safe(one.label)}</div>'
      f'<div class="quiet">{_safe(one.note)}</div></div>' for one in headlines)
  return f'<div class="headlines">{cards}</div>' if cards else ""


def _rate(trials: Sequence[bool]) -> tuple[float, float, float]:
  low, high = statistics.wilson(sum(trials), len(trials))
  return (sum(trials) / len(trials) if trials else 0.0), low, high


def _interval(low: float, high: float) -> str:
  return f"{100 * low:.0f} to {100 * high:.0f} %"


def _groups(success: content_lib.Success) -> list[tuple[str, list[str]]]:
  """(title, verbs) of each row that sums over verbs."""
  seen = [verb for verb in success.verbs if verb not in success.novel]
  novel = [verb for verb in success.verbs if verb in success.novel]
  groups = [("all demonstrated", seen), ("all never demonstrated", novel)]
  return [group for group in groups if len(group[1]) > 1]


def _pooled(policy: content_lib.Policy, verbs: Sequence[str]) -> list[bool]:
  return [trial for verb in verbs for trial in policy.trials.get(verb, ())]


def _success(success: content_lib.Success) -> str:
  if not success.policies:
    return ""
  rows = [(verb, [verb], verb in success.novel) for verb in success.verbs]
  totals = [(title, verbs, False) for title, verbs in _groups(success)]
  head = "".join(f"<th>{_safe(policy.name)}</th>"
                 for policy in success.policies)
  body, charts = "", ""
  for title, verbs, novel in rows + totals:
    tag = ' <span class="tag novel">never demonstrated</span>' if novel else ""
    cells, points = "", []
    for policy in success.policies:
      trials = _pooled(policy, verbs)
      if not trials:
        cells += '<td class="quiet">not tried</td>'
        continue
      rate, low, high = _rate(trials)
      cells += (f"<td>{sum(trials)} of {len(trials)}"
                f"<small>{_interval(low, high)}</small></td>")
      points.append((policy.name, rate, low, high,
                     f"{sum(trials)}/{len(trials)}"))
    name = _safe(title.replace("_", " "))
    total = ' class="total"' if (title, verbs) in _groups(success) else ""
    body += f"<tr{total}><td>{name}{tag}</td>{cells}</tr>"
    charts += (f"<figure><h4>{name}{tag}</h4>"
               f"{svg.intervals(points, f'success at {title} in percent')}"
               "</figure>")
  notes = "".join(
      f"<li><b>{_safe(policy.name)}</b>: {_safe(policy.note)}</li>"
      for policy in success.policies if policy.note)
  return (
      f"{_paragraph(success.note)}"
      f"<ul>{notes}</ul>"
      f'<div class="scroll"><table><thead><tr><th>behaviour</th>{head}</tr>'
      f"</thead><tbody>{body}</tbody></table></div>"
      f'<p class="note">Successes of trials; below them the 95 % Wilson '
      f"interval. {_seeds(success.seeds)}</p>"
      f'<div class="charts">{charts}</div>'
      '<p class="note">Dots are success rates in percent, bars the same '
      "intervals.</p>"
  )


def _seeds(seeds: Sequence[int]) -> str:
  if not seeds:
    return ""
  first, last = min(seeds), max(seeds)
  if sorted(seeds) == list(range(first, last + 1)) and len(seeds) > 2:
    shown = f"{first} to {last}"
  else:
    shown = ", ".join(map(str, seeds))
  return f"Seeds {shown}, the same for every policy."


def _clips(clips: Sequence[content_lib.Clip]) -> str:
  if not clips:
    return ""
  single = all(len(clip.panes) == 1 for clip in clips)
  cards = "".join(_clip(clip) for clip in clips)
  return f'<div class="clips{" single" if single else ""}">{cards}</div>'


def _clip(clip: content_lib.Clip) -> str:
  frames = enlarge(clip.panes)  # f h w c
  data = base64.b64encode(video.encode(frames, clip.hz)).decode()
  labels = "".join(f"<span>{_safe(pane.label)}</span>" for pane in clip.panes)
  facts = [_safe(clip.verb.replace("_", " "))] if clip.verb else []
  if clip.seed is not None:
    facts.append(f"seed {clip.seed}")
  if clip.note:
    facts.append(_safe(clip.note))
  tag = ('<span class="tag novel">never demonstrated</span> '
         if clip.novel else "")
  wide = ' class="wide"' if len(clip.panes) > 2 else ""
  return (
      f'<figure{wide}><div class="panes">{labels}</div>'
      f'<video src="data:video/mp4;base64,{data}" width="{frames.shape[2]}" '
      f'height="{frames.shape[1]}" aria-label="{_safe(clip.instruction)}" '
      "autoplay loop muted playsinline></video>"
      f'<div class="said">{_safe(clip.instruction)}</div>'
      f'<div class="facts">{tag}{" · ".join(facts)}</div></figure>'
  )


def _dreams(report: content_lib.Report) -> str:
  if not report.dreams:
    return ""
  paired = [clip for clip in report.dreams if len(clip.panes) > 1]
  alone = [clip for clip in report.dreams if len(clip.panes) == 1]
  return (_paragraph(report.dreams_note) + _clips(alone) + _clips(paired))


def _labels(labels: content_lib.Labels) -> str:
  if not labels.fits and not labels.episodes:
    return ""
  parts = [_paragraph(labels.note)]
  if labels.fits:
    rows = "".join(
        f"<tr><td>{_safe(fit.dimension)}</td><td>{fit.r2:.3f}</td><td>"
        + ("" if fit.error is None
           else f"{svg.number(fit.error)} {_safe(fit.unit)}")
        + "</td></tr>" for fit in labels.fits)
    parts.append(
        '<div class="scroll"><table><thead><tr><th>action</th>'
        "<th>R² on held-out episodes</th><th>root mean square error</th></tr>"
        f"</thead><tbody>{rows}</tbody></table></div>")
  for episode in labels.episodes:
    charts = "".join(trace(each, episode.hz) for each in episode.traces)
    parts.append(f'<h3>{_safe(episode.title)}</h3>'
                 f'<div class="charts">{charts}</div>')
  return "".join(parts)


def trace(trace: content_lib.Trace, hz: float) -> str:
  """A dimension of an episode, true and decoded, with its spread."""
  seconds = [step / hz for step in range(len(trace.true))]
  band = [(x, y - s, y + s) for x, y, s in
          zip(seconds, trace.decoded, trace.spread, strict=False)]
  unit = f" ({trace.unit})" if trace.unit and trace.unit != "1" else ""
  chart = svg.lines(
      [("true", list(zip(seconds, trace.true, strict=True))),
       ("decoded", list(zip(seconds, trace.decoded, strict=True)))],
      x_label="seconds", y_label=trace.dimension, height=150, band=band)
  return figure(trace.dimension + unit, ["true", "decoded"], chart)


def figure(title: str, names: Sequence[str], chart: str,
           caption: str = "") -> str:
  """A chart in its frame, with the names of its lines."""
  legend = "".join(f'<span class="c{index % svg.COLOURS}"><b>{_safe(name)}</b>'
                   "</span>" for index, name in enumerate(names))
  below = f"<figcaption>{_safe(caption)}</figcaption>" if caption else ""
  return (f'<figure><h4>{_safe(title)}</h4><div class="legend">{legend}</div>'
          f"{chart}{below}</figure>")


def _curves(curves: Sequence[content_lib.Curve]) -> str:
  charts = "".join(
      figure(
          f"{curve.title}: {curve.y_label}"
          + (" (logarithmic)" if curve.log else ""),
          [line.name for line in curve.series],
          svg.lines(
              [(line.name, list(zip(line.x, line.y, strict=True)))
               for line in curve.series],
              x_label=curve.x_label, y_label=curve.y_label, log=curve.log),
          curve.caption)
      for curve in curves)
  return f'<div class="charts">{charts}</div>' if charts else ""


def _honesty(honesty: content_lib.Honesty) -> str:
  weakest = (f'<div class="weakest"><b>What falls short.</b> '
             f"{_safe(honesty.weakest)}</div>" if honesty.weakest else "")
  notes = "".join(f"<li>{_safe(note)}</li>" for note in honesty.notes)
  return weakest + (f"<ul>{notes}</ul>" if notes else "")


def _run(run: content_lib.Run) -> str:
  parts = []
  if run.command:
    parts.append(f"<pre>{_safe(run.command)}</pre>")
  facts = [fact for fact in (run.machine, run.started) if fact]
  parts.append(_paragraph("; ".join(facts), "quiet"))
  if run.stages:
    total = sum(stage.seconds for stage in run.stages)
    most = max(stage.seconds for stage in run.stages) or 1
    rows = "".join(
        f"<tr><td>{_safe(stage.name)}</td><td>{duration(stage.seconds)}"
        f'<span class="bar" style="width:{100 * stage.seconds / most:.0f}%">'
        f'</span></td><td class="text">{_safe(stage.note)}</td>'
        f"<td><code>{_safe(stage.key[:12])}</code></td></tr>"
        for stage in run.stages)
    parts.append(
        '<div class="scroll"><table><thead><tr><th>stage</th><th>time</th>'
        '<th style="text-align:left">result</th><th>key</th></tr></thead>'
        f'<tbody>{rows}<tr class="total"><td>together</td>'
        f"<td>{duration(total)}</td><td></td><td></td></tr></tbody></table>"
        "</div>")
  for title, facts in (("Hashes", run.hashes), ("Versions", run.versions)):
    if facts:
      rows = "".join(f'<tr><td>{_safe(name)}</td><td class="text"><code>'
                     f"{_safe(value)}</code></td></tr>"
                     for name, value in facts.items())
      parts.append(f'<details><summary>{title}</summary><div class="scroll">'
                   f"<table><tbody>{rows}</tbody></table></div></details>")
  if run.config:
    text = json.dumps(run.config, indent=2, default=str)
    parts.append("<details><summary>Resolved config</summary>"
                 f"<pre>{_safe(text)}</pre></details>")
  return "".join(parts)
