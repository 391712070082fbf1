"""One HTML page on labels that were held against recorded actions."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from dreamgen_jax.report import content, look, page, svg


def build(title: str, notes: Sequence[str], columns: Sequence[str],
          rows: Sequence[Mapping[str, Any]], spreads: Sequence[float],
          covered: Mapping[str, Sequence[float]],
          episode: content.Labelled) -> str:
  """The page.

  Args:
    title: what was labelled.
    notes: sentences at the top.
    columns, rows: the table; a row may lack columns.
    spreads: how many spreads an error may be ...
    covered: ... and the share of steps that are within, by dimension.
    episode: one of those that were labelled.
  """
  shown = dict(list(covered.items())[:svg.COLOURS - 1])
  shown["normal errors"] = [math.erf(z / math.sqrt(2)) for z in spreads]
  charts = page.figure(
      "Does the spread say how far off a label is?", list(shown), svg.lines(
          [(name, list(zip(spreads, shares, strict=True)))
           for name, shares in shown.items()],
          x_label="spreads", y_label="share of steps within"),
      "Below the line of normal errors the labeler is too sure.")
  traces = "".join(page.trace(each, episode.hz) for each in episode.traces)
  head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
  body = "".join("<tr>" + "".join(
      f"<td>{_cell(row.get(column, ''))}</td>" for column in columns) + "</tr>"
                 for row in rows)
  said = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
  return (
      '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
      '<meta name="viewport" content="width=device-width, initial-scale=1">'
      f"<title>{html.escape(title)}</title><style>{look.STYLE}</style></head>"
      f"<body><header><h1>{html.escape(title)}</h1></header><main>{said}"
      f'<div class="charts">{charts}</div><h2>{html.escape(episode.title)}</h2>'
      f'<div class="charts">{traces}</div><h2>By dimension</h2>'
      f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
      f"<tbody>{body}</tbody></table></div></main></body></html>")


def _cell(value: Any) -> str:
  return html.escape(value) if isinstance(value, str) else svg.number(value)
