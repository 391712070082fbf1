"""The page's style sheet and its few lines of script."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfbfa; --card: #ffffff; --ink: #1d2327; --quiet: #5d676f;
  --rule: #e1e4e6; --soft: #f1f3f4; --accent: #0b63a5;
  --warn: #fff6e0; --warn-rule: #e2b23c;
  --c0: #0b6fb8; --c1: #d9730d; --c2: #0a8a62; --c3: #b5468b;
  --c4: #6b7680; --c5: #8a6d00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14181b; --card: #1c2226; --ink: #e6eaed; --quiet: #9aa5ad;
    --rule: #333c42; --soft: #242b30; --accent: #6db8ee;
    --warn: #2d2717; --warn-rule: #b58d2f;
    --c0: #5aaeea; --c1: #f0964a; --c2: #45bd93; --c3: #dd83ba;
    --c4: #98a4ad; --c5: #d4b545;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main, header, footer {
  max-width: 1160px; margin: 0 auto; padding: 0 16px;
}
header { padding-top: 40px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 8px; }
h2 {
  font-size: 1.3rem; margin: 56px 0 6px; padding-top: 20px;
  border-top: 1px solid var(--rule); scroll-margin-top: 8px;
}
h3 { font-size: 1rem; margin: 28px 0 8px; }
p { max-width: 72ch; margin: 6px 0 14px; }
a { color: var(--accent); }
.quiet, figcaption, .note { color: var(--quiet); font-size: .88rem; }
.subtitle { font-size: 1.08rem; color: var(--quiet); }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 14px 0 0;
  font-size: .92rem; }
.headlines, .charts, .clips { display: grid; gap: 16px; margin: 18px 0; }
.headlines { grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); }
.charts, .clips {
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 320px), 1fr)); }
.clips.single { grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
.card, figure {
  margin: 0; background: var(--card); border: 1px solid var(--rule);
  border-radius: 8px; padding: 12px 14px; min-width: 0;
}
.card .value { font-size: 1.9rem; font-weight: 650; line-height: 1.15; }
.card .label { font-weight: 550; }
figure h4 { margin: 0 0 6px; font-size: .95rem; font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; margin: 0 0 4px;
  font-size: .82rem; color: var(--quiet); }
.legend span::before { content: ""; display: inline-block; width: 14px;
  height: 3px; margin-right: 6px; vertical-align: middle;
  background: currentColor; border-radius: 2px; }
.legend .c0 { color: var(--c0); } .legend .c1 { color: var(--c1); }
.legend .c2 { color: var(--c2); } .legend .c3 { color: var(--c3); }
.legend .c4 { color: var(--c4); } .legend .c5 { color: var(--c5); }
.legend b { color: var(--quiet); font-weight: 400; }
svg { display: block; width: 100%; height: auto; }
svg text { font: 11px system-ui, -apple-system, sans-serif;
  fill: var(--quiet); }
svg text.strong { fill: var(--ink); font-size: 11.5px; }
.grid { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.whisker { stroke-width: 4; stroke-linecap: round; opacity: .38; }
.band { fill: var(--c1); opacity: .2; }
.line.c0, .whisker.c0 { stroke: var(--c0); } .dot.c0 { fill: var(--c0); }
.line.c1, .whisker.c1 { stroke: var(--c1); } .dot.c1 { fill: var(--c1); }
.line.c2, .whisker.c2 { stroke: var(--c2); } .dot.c2 { fill: var(--c2); }
.line.c3, .whisker.c3 { stroke: var(--c3); } .dot.c3 { fill: var(--c3); }
.line.c4, .whisker.c4 { stroke: var(--c4); } .dot.c4 { fill: var(--c4); }
.line.c5, .whisker.c5 { stroke: var(--c5); } .dot.c5 { fill: var(--c5); }
video { display: block; width: 100%; height: auto; border-radius: 4px;
  background: #808080; cursor: pointer; }
.panes { display: flex; gap: 8px; font-size: .78rem; color: var(--quiet);
  margin-bottom: 4px; }
.panes span { flex: 1; }
.said { margin: 8px 0 2px; font-weight: 550; line-height: 1.35; }
.facts { font-size: .82rem; color: var(--quiet); }
.tag { display: inline-block; padding: 0 7px; border-radius: 9px;
  background: var(--soft); font-size: .78rem; color: var(--ink);
  white-space: nowrap; }
.tag.novel { background: none; color: var(--accent);
  border: 1px solid var(--accent); font-weight: 500; }
.scroll { overflow-x: auto; border: 1px solid var(--rule); border-radius: 8px;
  background: var(--card); margin: 14px 0; }
table { border-collapse: separate; border-spacing: 0; width: 100%;
  font-size: .92rem;  font-variant-numeric: tabular-nums; }
th, td { padding: 7px 12px; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--rule); vertical-align: top; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
  background: var(--card); }
th { font-weight: 600; white-space: normal; }
tbody tr:last-child > * { border-bottom: 0; }
td small { display: block; color: var(--quiet); font-size: .76rem; }
tr.total > * { background: var(--soft); font-weight: 600; }
tr.total small { font-weight: 400; }
td.text { text-align: left; white-space: normal; min-width: 12ch;
  overflow-wrap: anywhere; }
.bar { display: block; height: 6px; margin-top: 5px; border-radius: 3px;
  background: var(--c0); min-width: 1px; margin-left: auto; }
.weakest { background: var(--warn); border-left: 4px solid var(--warn-rule);
  border-radius: 4px; padding: 12px 16px; margin: 14px 0; max-width: 76ch; }
li { max-width: 72ch; margin: 4px 0; }
details { margin: 10px 0; }
summary { cursor: pointer; color: var(--accent); }
pre, code { font: .84rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas,
  monospace; }
pre { background: var(--soft); border-radius: 6px; padding: 12px;
  overflow-x: auto; }
@media (min-width: 760px) { .wide { grid-column: span 2; } }
@media (max-width: 640px) {
  td, th { padding: 7px 9px; }
  td:first-child { white-space: normal; max-width: 14ch; }
  td .tag { font-size: .68rem; padding: 0 5px; }
}
footer { padding: 48px 16px 40px; color: var(--quiet); font-size: .85rem; }
"""

# A click stops and starts a video; who asked for less motion gets stills.
SCRIPT = """
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
for (const video of document.querySelectorAll("video")) {
  video.addEventListener("click", () =>
    video.paused ? video.play() : video.pause());
  if (still) { video.autoplay = false; video.pause(); video.controls = true; }
}
"""
