"""The page says what it was given, safely, and its videos are playable."""

import base64
import io
import re
import xml.etree.ElementTree

import av
import numpy as np
import pytest

from dreamgen_jax import errors, report
from dreamgen_jax.report import content, page, svg


def moving_square(length=17, side=64, speed=2, colour=(200, 40, 40)):
  """A coloured square that moves over a grey table: uint8[f, h, w, 3]."""
  frames = np.full((length, side, side, 3), 150, np.uint8)
  frames[:, side // 2:] = (120, 96, 70)
  for index in range(length):
    left = 4 + speed * index
    frames[index, side // 2:side // 2 + 10, left:left + 10] = colour
  return frames


def example(clips=1):
  """Synthetic content with every section filled."""
  rng = np.random.default_rng(0)
  steps = np.arange(0, 400, 8)
  time = np.arange(17) / 5
  true = np.sin(time)
  verbs = ("pick_place", "push", "slide_left", "press_button")
  rates = {"neural only": 0.5, "co-trained": 0.6, "demonstrations only": 0.2,
           "no-op": 0.02, "oracle": 0.97}
  real, dream = moving_square(), moving_square(colour=(40, 40, 200))
  clip = {"hz": 5.0, "instruction": "push the <red> block to the left",
          "verb": "push", "seed": 2000003, "novel": True}
  return {
      "title": "DreamGen on a tabletop",
      "subtitle": "A world model dreams what nobody demonstrated.",
      "headlines": [
          {"value": "52 %", "label": "success at new verbs",
           "note": "20 % with demonstrations only"},
          {"value": "0.93", "label": "R² of decoded actions"},
      ],
      "success": {
          "policies": [
              {"name": name, "note": f"trained on {name}",
               "trials": {verb: (rng.random(10) < rate).tolist()
                          for verb in verbs}}
              for name, rate in rates.items()],
          "novel": ["push", "slide_left", "press_button"],
          "seeds": list(range(3000000, 3000010)),
          "note": "A trial succeeds if the object is where it should be.",
      },
      "dreams": [
          {"panes": [{"label": "real", "frames": real},
                     {"label": "dreamed", "frames": dream}], **clip}
      ] * clips + [{"panes": [{"label": "dreamed", "frames": dream}], **clip}]
      * clips,
      "dreams_note": "Left a held-out recording, right a dream.",
      "labels": {
          "fits": [{"dimension": "x", "r2": 0.93, "error": 0.012, "unit": "m"}],
          "episodes": [{"title": "Episode 3", "hz": 5.0, "traces": [
              {"dimension": name, "unit": "m", "true": true * scale,
               "decoded": true * scale + rng.normal(0, 0.05, 17),
               "spread": np.full(17, 0.1)}
              for name, scale in (("x", 1), ("y", 0.1), ("z", -2))]}],
      },
      "evaluations": [
          {"panes": [{"label": "neural only", "frames": real}], **clip,
           "note": "success"}] * clips,
      "honesty": {"weakest": "The dreams are blurred.",
                  "notes": ["Ten trials are few.", "One simulator."]},
      "curves": [
          {"title": "world model", "log": True, "series": [
              {"name": "training", "x": steps,
               "y": np.exp(-steps / 100) + 0.1 + rng.normal(0, 0.01, 50)},
              {"name": "held out", "x": steps[::10],
               "y": np.exp(-steps[::10] / 100) + 0.13}]},
          {"title": "policy", "series": [
              {"name": "training", "x": steps, "y": 1 / (1 + steps / 50)}]}],
      "run": {
          "command": "./launch/quickstart.sh",
          "machine": "2 CPU cores, 8 GB",
          "started": "2026-01-01 10:00",
          "stages": [
              {"name": "finetune", "seconds": 312.4, "key": "a" * 64,
               "note": "57 of 57 adapters, 0.3 M parameters"},
              {"name": "dreams", "seconds": 95, "key": "b" * 64}],
          "versions": {"jax": "0.10.2"},
          "hashes": {"world model": "c" * 64},
          "config": {"finetune": {"steps": 400, "rate": 0.001}},
      },
  }


@pytest.fixture(scope="module")
def text(tmp_path_factory):
  path = tmp_path_factory.mktemp("report") / "report.html"
  assert report.build(example(), path) == path
  assert [file.name for file in path.parent.iterdir()] == ["report.html"]
  return path.read_text()


def test_every_section_is_there(text):
  for part in ("52 %", "Success in the simulator", "Dreams", "Training",
               "never demonstrated", "What falls short", "seed 2000003",
               "Seeds 3000000 to 3000009", "5 min 12 s", "6 min 47 s", "0.930",
               "demonstrations only", "aaaaaaaaaaaa", "&quot;steps&quot;: 400"):
    assert part in text, part


def test_text_is_escaped(text):
  assert "the &lt;red&gt; block" in text
  assert "<red>" not in text


def test_nothing_is_loaded_from_elsewhere(text):
  stripped = re.sub(r"data:video/mp4;base64,[\w+/=]+", "", text)
  assert not re.search(r"https?:|//[\w]|@import|url\(", stripped)
  sources = re.findall(r'(?:src|href)="([^"]*)"', stripped)
  assert sources
  assert all(not source or source[0] == "#" or source == "data:,"
             for source in sources)


def test_svg_is_well_formed_and_inside_its_frame(text):
  drawings = re.findall(r"<svg.*?</svg>", text)
  assert len(drawings) == 5 + 3 + 2  # intervals, traces, curves
  for drawing in drawings:
    root = xml.etree.ElementTree.fromstring(drawing)
    _, _, width, height = map(float, root.get("viewBox").split())
    for line in root.iter("polyline"):
      for point in line.get("points").split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= width
        assert 0 <= y <= height


def test_videos_are_what_browsers_play(text):
  videos = re.findall(r"data:video/mp4;base64,([\w+/=]+)", text)
  assert len(videos) == 3
  for number, data in enumerate(videos):
    with av.open(io.BytesIO(base64.b64decode(data))) as container:
      stream = container.streams.video[0]
      assert stream.codec_context.name == "h264"
      assert stream.codec_context.pix_fmt == "yuv420p"
      assert stream.frames == 17
      assert stream.average_rate == 5
      assert stream.codec_context.height == 256
      assert stream.codec_context.width == (520 if number == 1 else 256)
      first = next(container.decode(stream)).to_ndarray(format="rgb24")
    # The square's colour survives the halved colour resolution.
    wanted = (40, 40, 200) if number == 0 else (200, 40, 40)
    np.testing.assert_allclose(first[148, 36], wanted, atol=12)


def test_short_panes_hold_their_last_frame_and_sides_are_even():
  long, short = moving_square(5, side=61), moving_square(3, side=61)
  frames = page.enlarge([content.Pane("a", long), content.Pane("b", short)])
  assert frames.shape == (5, 244, 244 + 8 + 244, 3)
  np.testing.assert_array_equal(frames[2, :, 252:], frames[4, :, 252:])
  odd = page.enlarge([content.Pane("a", np.zeros((2, 301, 333, 3), np.uint8))])
  assert odd.shape == (2, 302, 334, 3)


def test_empty_sections_are_left_out(tmp_path):
  path = report.build({"title": "Nothing yet"}, tmp_path / "report.html")
  text = path.read_text()
  assert "<h2" not in text
  assert "Nothing yet" in text


@pytest.mark.parametrize(("change", "message"), [
    ({"titel": 1}, r"report has no field 'titel'.*Did you mean 'title'\?"),
    ({"run": {"stages": [{"name": "x"}]}}, r"stages\[0\] lacks 'seconds'"),
    ({"run": 3}, r"report.run must be a Run or a dict"),
    ({"curves": [{"title": "t", "series": [
        {"name": "s", "x": [1], "y": [1, 2]}]}]}, "unequal length: 1, 2"),
    ({"dreams": [{"hz": 5, "instruction": "push", "panes": [
        {"label": "a", "frames": np.zeros((2, 4, 4, 3))}]}]}, "float64"),
    ({"dreams": [{"hz": 5, "instruction": "push", "panes": [
        {"label": "a", "frames": np.zeros((2, 4, 4, 3), np.uint8)},
        {"label": "b", "frames": np.zeros((2, 6, 4, 3), np.uint8)}]}]},
     r"one height, not \[4, 6\]"),
])
def test_wrong_content_says_where(change, message):
  with pytest.raises(errors.DataError, match=message):
    content.read({"title": "t", **change})


def test_records_are_checked_like_dicts(tmp_path):
  curve = content.Curve("t", [content.Series("s", [1.0], [1.0, 2.0])])
  with pytest.raises(errors.DataError, match="unequal length: 1, 2"):
    report.build(content.Report("t", curves=[curve]), tmp_path / "x.html")
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("values", [
    [1.0, 1.0], [0.0, 0.0], [float("nan"), 2.0, 3.0], [5.0], [1e-9, 1e9],
    [-3.0, 4.0], [float("inf"), float("nan")],
])
@pytest.mark.parametrize("log", [False, True])
def test_lines_survive_odd_values(values, log):
  drawing = svg.lines([("a", list(enumerate(values)))], x_label="step",
                      y_label="loss", log=log)
  assert "nan" not in drawing
  assert "inf" not in drawing


@pytest.mark.parametrize(("low", "high", "ticks"), [
    (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
    (-3, 12, [-5, 0, 5, 10, 15]),
    (0.1, 0.31, [0.1, 0.15, 0.2, 0.25, 0.3, 0.35]),
])
def test_ticks_are_round(low, high, ticks):
  np.testing.assert_allclose(svg._ticks(low, high), ticks)


def test_log_ticks_span_the_values():
  assert svg._log_ticks(0.13, 1.1) == pytest.approx([0.1, 0.2, 0.5, 1, 2])
  assert svg._log_ticks(1e-4, 3) == pytest.approx([1e-4, 1e-3, .01, .1, 1, 10])


@pytest.mark.parametrize(("seconds", "shown"), [
    (0.44, "0.4 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"),
    (3661, "1 h 1 min")])
def test_duration(seconds, shown):
  assert page.duration(seconds) == shown
