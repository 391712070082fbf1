"""Charts as inline SVG: text in, text out, coloured by the page's own style.

Charts are drawn 360 units wide, so that on a phone one unit is one pixel; the
page lays several beside each other where there is room.
"""

import html
import math
from collections.abc import Sequence

WIDTH = 360
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 8, 34
COLOURS = 6  # the style sheet knows c0 ... c5

Points = Sequence[tuple[float, float]]


def lines(
    series: Sequence[tuple[str, Points]],
    *,
    x_label: str,
    y_label: str,
    height: int = 210,
    log: bool = False,
    band: Sequence[tuple[float, float, float]] = (),
) -> str:
  """A chart of lines.

  Args:
    series: (name, points) each; a point that is not finite leaves a gap.
    x_label, y_label: what the axes show, with units.
    height: of the drawing; the width is WIDTH.
    log: logarithmic y; values that are not positive leave a gap.
    band: (x, low, high) of a shaded band behind the lines.

  Returns:
    An <svg> element.
  """
  def usable(y: float) -> bool:
    return math.isfinite(y) and (y > 0 or not log)

  points = [point for _, line in series for point in line if usable(point[1])]
  points += [(x, y) for x, *edges in band for y in edges if usable(y)]
  if not points:
    return '<p class="quiet">No finite values.</p>'
  x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
  x_high = x_high if x_high > x_low else x_low + 1
  ticks = _log_ticks if log else _ticks
  y_ticks = ticks(min(y for _, y in points), max(y for _, y in points))
  low = min(y_ticks[0], min(y for _, y in points))
  high = max(y_ticks[-1], max(y for _, y in points))
  warp = math.log if log else float

  def across(x: float) -> float:
    return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

  def down(y: float) -> float:
    part = (warp(y) - warp(low)) / (warp(high) - warp(low))
    return height - BOTTOM - part * (height - TOP - BOTTOM)

  parts = [
      f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" '
      f'y1="{down(tick):.1f}" y2="{down(tick):.1f}"/>'
      f'<text x="{LEFT - 6}" y="{down(tick) + 3.5:.1f}" '
      f'text-anchor="end">{number(tick)}</text>' for tick in y_ticks]
  parts += [
      f'<text x="{across(tick):.1f}" y="{height - BOTTOM + 15}" '
      f'text-anchor="middle">{number(tick)}</text>'
      for tick in _ticks(x_low, x_high, 4) if x_low <= tick <= x_high]
  parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{height - 4}" '
               f'text-anchor="middle">{html.escape(x_label)}</text>')
  edges = [(across(x), down(a), down(b)) for x, a, b in band
           if usable(a) and usable(b)]
  if edges:
    outline = [f"{x:.1f},{a:.1f}" for x, a, _ in edges]
    outline += [f"{x:.1f},{b:.1f}" for x, _, b in reversed(edges)]
    parts.append(f'<polygon class="band" points="{" ".join(outline)}"/>')
  for index, (name, line) in enumerate(series):
    colour = f"c{index % COLOURS}"
    for run in _runs(line, usable):
      drawn = [(across(x), down(y)) for x, y in run]
      title = f"<title>{html.escape(name)}</title>"
      if len(drawn) == 1:
        x, y = drawn[0]
        parts.append(f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" '
                     f'r="3">{title}</circle>')
      else:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        parts.append(f'<polyline class="line {colour}" points="{path}">{title}'
                     "</polyline>")
  return _svg(parts, height, f"{y_label} over {x_label}")


def intervals(
    rows: Sequence[tuple[str, float, float, float, str]],
    label: str,
) -> str:
  """Rates with intervals, one row each, on an axis from 0 to 100 %.

  Args:
    rows: (name, rate, low, high, text at the right) each, rates in [0, 1].
    label: what the chart shows, for screen readers.

  Returns:
    An <svg> element; row i has the colour i.
  """
  left, right, step, top = 164, 44, 22, 6
  height = top + step * len(rows) + 22

  def across(rate: float) -> float:
    return left + rate * (WIDTH - left - right)

  parts = []
  for percent in (0, 25, 50, 75, 100):
    x = across(percent / 100)
    parts.append(
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" '
        f'y2="{height - 20}"/><text x="{x:.1f}" y="{height - 6}" '
        f'text-anchor="middle">{percent}</text>')
  for index, (name, rate, low, high, text) in enumerate(rows):
    y = top + step * (index + 0.5)
    colour = f"c{index % COLOURS}"
    parts.append(
        f'<text class="strong" x="{left - 8}" y="{y + 4}" text-anchor="end">'
        f"{html.escape(_short(name, 24))}</text>"
        f'<line class="whisker {colour}" x1="{across(low):.1f}" '
        f'x2="{across(high):.1f}" y1="{y}" y2="{y}"/>'
        f'<circle class="dot {colour}" cx="{across(rate):.1f}" cy="{y}" r="5">'
        f"<title>{html.escape(name)}: {rate:.0%}, interval {low:.0%} to "
        f"{high:.0%}</title></circle>"
        f'<text x="{WIDTH - 2}" y="{y + 4}" text-anchor="end">'
        f"{html.escape(text)}</text>")
  return _svg(parts, height, label)


def number(value: float) -> str:
  """Few digits, no trailing zeros, exponents only where they are shorter."""
  if value == 0:
    return "0"
  if abs(value) >= 10_000 and value % 1000 == 0 and abs(value) < 1e6:
    return f"{value / 1000:g}k"
  return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e")


def _svg(parts: Sequence[str], height: float, label: str) -> str:
  return (f'<svg viewBox="0 0 {WIDTH} {height}" role="img" '
          f'aria-label="{html.escape(label)}">{"".join(parts)}</svg>')


def _short(text: str, most: int) -> str:
  return text if len(text) <= most else text[:most - 1] + "…"


def _runs(line: Points, usable) -> list[list[tuple[float, float]]]:
  """The line without its gaps."""
  runs: list[list[tuple[float, float]]] = [[]]
  for point in line:
    if usable(point[1]):
      runs[-1].append(point)
    elif runs[-1]:
      runs.append([])
  return [run for run in runs if run]


def _ticks(low: float, high: float, most: int = 5) -> list[float]:
  """Round numbers that span [low, high]; a flat line gets a little room."""
  if high - low < 1e-12 * max(abs(low), abs(high), 1):
    room = abs(low) * 0.1 or 1.0
    low, high = low - room, high + room
  rough = (high - low) / most
  power = 10 ** math.floor(math.log10(rough))
  step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
  first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
  return [round(index * step, 12) for index in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
  """Powers of ten that span [low, high], with 2 and 5 where they are few."""
  first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
  last = max(last, first + 1)
  steps = (1,) if last - first > 2 else (1, 2, 5)
  ticks = [m * 10.0**power for power in range(first, last) for m in steps]
  ticks.append(10.0**last)
  start = max((i for i, tick in enumerate(ticks) if tick <= low), default=0)
  stop = min((i for i, tick in enumerate(ticks) if tick >= high),
             default=len(ticks) - 1)
  return ticks[start:max(stop, start + 1) + 1]
