"""Frames labelled per second, against the released way of labelling.

  python -m dreamgen_jax.benchmarks.labels [--frames=93] [--rounds=2]
      [--width=128] [--strides=1,2,4,8,16]

The released way (GR00T-Dreams' dump of inverse dynamics), ported as it is: one
window at a time, every frame seen once as first and once as second of a pair,
and the self-attention over what is seen computed anew at each of the 16 Euler
steps. Ours looks at each frame once, computes the context once per pair, works
in batches, and may start a window every few frames only.

Both label the same random video in one run, with the released model at a small
width, depths as released; at stride 1 they must say the same. Floating-point
operations are those of the full size, counted in the traced program of each
part (nothing is run for it), times how often each part runs.
"""

import dataclasses
import functools
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dreamgen_jax import annotator, errors, options, types
from dreamgen_jax import flops as flops_lib
from dreamgen_jax.data import labels, normalize
from dreamgen_jax.labelers import idm

HELP = {
    "frames": (93, "of the video, at 16 Hz"),
    "rounds": (2, "of which the fastest counts, after one of compilation"),
    "width": (128, "of the small model's towers"),
    "strides": ("1,2,4,8,16", "frames from one window to the next"),
    "batch_size": (16, "windows, and frames, per call of ours"),
}
HZ = 16.0
TIME_BASE = labels.TimeBase(HZ, HZ, 1.0, 16)
ROBOT = types.Embodiment(
    "gr1_like", 0, (), (types.Key("joints", 32, normalize="identity"),),
    {"front": "front"}, types.Clock(HZ, HZ))


@options.program(__doc__, HELP)
def main(given: Any) -> None:
  """Runs the program."""
  strides = [int(part) for part in given.strides.split(",")]
  if given.width % 64:
    raise errors.ConfigError("The width must be a multiple of 64.")
  model = idm.Model(small(given.width))
  params = _drawn(model)
  video = np.random.default_rng(0).integers(
      0, 256, (given.frames, 256, 256, 3), np.uint8)
  ways = {"released": functools.partial(released, model, params, video)} | {
      f"stride {stride}": functools.partial(
          ours, model, params, video, stride, given.batch_size)
      for stride in strides}
  seconds: dict[str, float] = {}
  said = {}
  for number in range(given.rounds + 1):  # in turns: others may use the machine
    for name, way in ways.items():
      begin = time.perf_counter()
      said[name] = way()
      took = time.perf_counter() - begin
      print(f"round {number}, {name}: {took:.1f} s", flush=True)
      if number:
        seconds[name] = min(seconds.get(name, np.inf), took)
  if 1 in strides:
    apart = np.abs(said["stride 1"] - said["released"]).max()
    print(f"Largest difference of labels at stride 1: {apart:.1e}")
  parts = flops(idm.Model(idm.PRESETS["groot_dreams"]))
  print("Full size, GFLOP: " + ", ".join(
      f"{name} {count / 1e9:.1f}" for name, count in parts.items()))
  print(f"\n{'':10}{'frames/s':>10}{'':>8}{'GFLOP/frame':>13}{'':>8}")
  base = dict(speed=given.frames / seconds["released"],
              cost=per_frame(parts, given.frames, None))
  for name in ways:
    stride = None if name == "released" else int(name.split()[1])
    speed = given.frames / seconds[name]
    cost = per_frame(parts, given.frames, stride)
    print(f"{name:10}{speed:>10.2f}{speed / base['speed']:>7.1f}x"
          f"{cost / 1e9:>13.1f}{base['cost'] / cost:>7.1f}x")


def small(width: int) -> idm.Config:
  """The released model at another width, depths and image path kept."""
  return dataclasses.replace(
      idm.PRESETS["groot_dreams"], vision_width=width,
      vision_heads=width // 64, vision_mlp=4 * width, width=width,
      heads=width // 64, spare=False, embodiments=1)


def _drawn(model: idm.Model) -> Any:
  rng = np.random.default_rng(0)
  return jax.tree.map(
      lambda leaf: jnp.asarray(
          rng.normal(0, 0.05, leaf.shape).astype(np.float32)),
      jax.eval_shape(model.init, jax.random.key(0)))


def ours(model: idm.Model, params: Any, video: np.ndarray, stride: int,
         batch_size: int) -> np.ndarray:
  """Labels f32[f,a] of a video, as the stage `label` makes them."""
  nothing = normalize.Accumulator(32)
  nothing.add(np.zeros((1, 32)))
  labeler = annotator.Annotator(
      model=model, params=params, time_base=TIME_BASE,
      normalizer=normalize.Normalizer(ROBOT.action, nothing.result()),
      embodiment=ROBOT, cameras=("front",), samples=1, weights="uniform",
      batch_size=batch_size, digest="", stride=stride)
  episode = types.Episode("video", {"front": video}, "", ROBOT.name,
                          ROBOT.clock, types.Origin("dream"))
  (found,) = labeler.label([episode])
  assert found.action is not None
  return found.action


def released(model: idm.Model, params: Any,
             video: np.ndarray) -> np.ndarray:
  """Labels f32[f,a] of a video, as the release makes them.

  With our pairs (its own gap is half of what it learnt) and our noise.
  """
  c = model.config
  see, step = _eager(model)
  index, starts = labels.windows(len(video), HZ, TIME_BASE)
  chunks, row = [], jnp.zeros(1, jnp.int32)
  for number, pair in enumerate(index):
    seen = see(params, video[pair][:, None])[None]  # 1 2 v l d
    key = jax.random.fold_in(jax.random.key(np.uint32(0)), number)
    x = jax.random.normal(
        jax.random.fold_in(key, 0), (1, c.horizon, c.action_dim))
    for i in range(c.sample_steps):
      time_index = int(i / c.sample_steps * c.time_buckets)
      x = step(params, x, jnp.full(1, time_index), seen, row)
    chunks.append(np.asarray(x)[0])
  return labels.aggregate(
      np.stack(chunks), starts, len(video), ROBOT.action).action


@functools.cache
def _eager(model: idm.Model) -> Any:
  """The two programs of the release: what is seen, and one whole Euler step."""

  def step(params, x, time_index, seen, row):
    context = model.context(params, seen)
    velocity = model.velocity(params, x, time_index, context, row)
    return x + velocity / model.config.sample_steps

  return jax.jit(model.see), jax.jit(step)


def flops(model: idm.Model) -> dict[str, float]:
  """Operations of each part for one frame, or one pair, and one sample."""
  c = model.config
  params = jax.eval_shape(model.init, jax.random.key(0))
  size = c.camera_size

  def shape(*axes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(axes, dtype)

  frame = shape(1, 1, size, size, 3, dtype=jnp.uint8)
  seen = jax.eval_shape(model.see, params, frame)
  pair = shape(1, 2, *seen.shape[1:])
  context = jax.eval_shape(model.context, params, pair)
  row = shape(1, dtype=jnp.int32)
  programs = {
      "see": (model.see, frame),
      "context": (model.context, pair),
      "step": (model.velocity, shape(1, c.horizon, c.action_dim), row,
               context, row),
  }
  return {name: flops_lib.count(function, (params, *args))
          for name, (function, *args) in programs.items()}


def per_frame(parts: dict[str, float], frames: int,
              stride: int | None) -> float:
  """Operations per labelled frame; stride None is the released way."""
  steps = idm.PRESETS["groot_dreams"].sample_steps
  index, _ = labels.windows(frames, HZ, TIME_BASE, stride=stride or 1)
  if stride is None:
    total = len(index) * (2 * parts["see"] + steps * (
        parts["context"] + parts["step"]))
  else:
    total = len(np.unique(index)) * parts["see"] + len(index) * (
        parts["context"] + steps * parts["step"])
  return total / frames


if __name__ == "__main__":
  sys.exit(main())
