"""A video with the actions that were recorded and decoded, drawn below it."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

WIDTH = 480
ROW = 56
TRUE, FOUND, INK = (11, 111, 184), (217, 115, 13), (90, 98, 106)


def draw(video: np.ndarray, truth: np.ndarray, found: np.ndarray,
         names: Sequence[str], rows: Sequence[int],
         steps_per_frame: float) -> np.ndarray:
  """One picture per frame: the frame, and strips of actions under it.

  Args:
    video: u8[f,h,w,3].
    truth, found: f32[n,a]; blue and orange lines on one scale.
    names: of the dimensions.
    rows: which of them have a strip.
    steps_per_frame: steps that pass from one frame to the next.

  Returns:
    u8[f,h',480,3]; a vertical line is where the video is.
  """
  height = round(video.shape[1] * WIDTH / video.shape[2])
  height += height % 2
  strips = Image.new("RGB", (WIDTH, ROW * len(rows)), "white")
  pen = ImageDraw.Draw(strips)
  for row, i in enumerate(rows):
    both = np.concatenate([truth[:, i], found[:, i]])
    low, high = np.nanmin(both), np.nanmax(both)
    scale = (ROW - 22) / max(high - low, 1e-9)
    for values, colour in ((truth[:, i], TRUE), (found[:, i], FOUND)):
      across = np.linspace(0, WIDTH - 1, len(values))
      down = ROW * (row + 1) - 4 - (values - low) * scale
      known = np.isfinite(down)
      pen.line(list(zip(across[known].tolist(), down[known].tolist(),
                        strict=True)), fill=colour, width=2)
    pen.text((4, ROW * row + 2), f"{names[i]}  {low:.3g} to {high:.3g}",
             fill=INK)
  shown = []
  for number, frame in enumerate(video):
    picture = Image.new("RGB", (WIDTH, height + strips.height))
    picture.paste(Image.fromarray(frame).resize((WIDTH, height)), (0, 0))
    picture.paste(strips, (0, height))
    at = number * steps_per_frame / max(len(truth) - 1, 1) * (WIDTH - 1)
    ImageDraw.Draw(picture).line(
        [(at, height), (at, height + strips.height)], fill=INK)
    shown.append(np.asarray(picture))
  return np.stack(shown)
