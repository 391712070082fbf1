"""One HTML file that shows a dataset: samples, statistics, problems."""

import base64
import html
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import simplejpeg

from dreamgen_jax import types
from dreamgen_jax.data import checks, images

FRAMES = 8  # of an episode, per camera
HEIGHT = 112  # pixels of a frame
_PLOT = 220, 48  # pixels of a curve
_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; color: #1b1f24;
  max-width: 1100px; padding: 0 1em }
h1 { font-size: 1.6em } h2 { margin-top: 2em; border-bottom: 1px solid #d0d7de }
table { border-collapse: collapse; margin: .6em 0 }
td, th { padding: .15em .8em .15em 0; text-align: left; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums }
th { color: #57606a; font-weight: 600 }
.strip { display: flex; gap: 3px; margin: .3em 0; overflow-x: auto }
.strip img { height: 112px; border-radius: 2px }
.curves { display: flex; flex-wrap: wrap; gap: .6em 1em }
.curves figure { margin: 0 } figcaption { color: #57606a; font-size: 12px }
svg { background: #f6f8fa; border-radius: 3px; display: block }
.told { font-size: 1.1em; margin: 2em 0 .2em } .id { color: #57606a }
.bad { color: #a40e26 }
"""


def write(look: Any, path: pathlib.Path) -> None:
  """Writes the page of an `inspect.Look`, whole or not at all."""
  partial = path.with_name(path.name + ".partial")
  partial.parent.mkdir(parents=True, exist_ok=True)
  partial.write_text(page(look), encoding="utf-8")
  partial.replace(path)


def page(look: Any) -> str:
  """The whole page as text."""
  kinds: dict[str, int] = {}
  for problem in look.problems:
    kinds[problem.kind] = kinds.get(problem.kind, 0) + 1
  parts = [
      _table([], look.facts.items()),
      "<h2>Problems</h2>",
      _table(["kind", "found", "meaning"], [
          (kind, count, checks.KINDS[kind]) for kind, count in kinds.items()])
      if kinds else "<p>None was found.</p>",
      _table(["episode or file", "kind", "problem"], [
          (problem.episode, problem.kind, problem.text
           + (" Skipped." if problem.skipped else ""))
          for problem in look.problems[:100]]) if kinds else "",
      "<h2>Sample episodes</h2>" if look.samples else "",
      *(_episode(episode, look.vectors) for episode in look.samples)]
  for what, (keys, found) in look.vectors.items():
    columns = ("mean", "std", "min", "q01", "q99", "max")
    parts += [
        f"<h2>{what.capitalize()}, {found.count} steps</h2>",
        _table(["", *columns], [
            (name, *(f"{getattr(found, column)[i]:.4g}" for column in columns))
            for i, name in enumerate(checks.names(keys))])]
  parts += ["<h2>Features</h2>",
            _table(["path", "kind", "used for"], look.features)]
  return (
      '<!doctype html><html lang="en"><head><meta charset="utf-8">'
      '<link rel="icon" href="data:,">'
      f"<title>{_safe(look.title)}</title><style>{_STYLE}</style></head><body>"
      f"<h1>{_safe(look.title)}</h1>{''.join(parts)}</body></html>\n")


def _episode(episode: types.Episode, vectors: dict[str, Any]) -> str:
  """Pictures and curves of one episode."""
  told = (f'<p class="told">{_safe(episode.instruction)}</p>'
          if episode.instruction else '<p class="bad">no instruction</p>')
  ended = {None: "", True: ", succeeded", False: ", failed"}[episode.success]
  strips, curves = [], []
  for camera, frames in episode.video.items():
    shown = np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)
    pictures = "".join(_picture(frames[i]) for i in dict.fromkeys(shown))
    strips.append(f'<figcaption>{_safe(camera)}, {len(frames)} frames'
                  f'</figcaption><div class="strip">{pictures}</div>')
  for what in ("state", "action"):
    values = getattr(episode, what)
    if values is not None and what in vectors:
      names = checks.names(vectors[what][0])
      curves += [_curve(f"{what} {name}", values[:, i])
                 for i, name in enumerate(names)]
  return (f'{told}<p class="id">{_safe(episode.id)}{ended}</p>'
          f'{"".join(strips)}<div class="curves">{"".join(curves)}</div>')


def _picture(frame: np.ndarray) -> str:
  height, width = frame.shape[:2]
  small = images.resize(frame, HEIGHT, max(1, round(width * HEIGHT / height)))
  data = base64.b64encode(simplejpeg.encode_jpeg(small, quality=85)).decode()
  return f'<img src="data:image/jpeg;base64,{data}" alt="">'


def _curve(name: str, values: np.ndarray) -> str:
  """One number over time, with its least and greatest value."""
  width, height = _PLOT
  known = values[np.isfinite(values)]
  low, high = (float(known.min()), float(known.max())) if len(known) else (0, 0)
  x = np.linspace(2, width - 2, len(values))
  y = height - 4 - (values - low) / ((high - low) or 1) * (height - 8)
  points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True)
                    if np.isfinite(b))
  return (
      f'<figure><svg width="{width}" height="{height}"><polyline fill="none" '
      f'stroke="#0969da" stroke-width="1.2" points="{points}"/></svg>'
      f"<figcaption>{_safe(name)}: {low:.3g} .. {high:.3g}</figcaption>"
      "</figure>")


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
  titles = "".join(f"<th>{_safe(name)}</th>" for name in head)
  body = "".join("<tr>" + "".join(
      f'<td class="n">{_safe(cell)}</td>' if _is_number(cell)
      else f"<td>{_safe(cell)}</td>" for cell in row) + "</tr>"
      for row in rows)
  return f"<table>{f'<tr>{titles}</tr>' if head else ''}{body}</table>"


def _is_number(cell: Any) -> bool:
  try:
    float(cell)
  except ValueError:
    return False
  return True


def _safe(text: Any) -> str:
  return html.escape(str(text))
