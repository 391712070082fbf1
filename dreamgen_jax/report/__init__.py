"""The report that a run leaves behind: one HTML file, from plain records.

`build(content, path)`; `content.Report` says what may be shown.
"""

from dreamgen_jax.report.page import build
