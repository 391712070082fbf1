"""The training loop: it learns, resumes bit-equal, and stops on nonsense."""

import os
import signal
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from dreamgen_jax import errors, metrics, monitor
from dreamgen_jax.data import loader
from dreamgen_jax.stages import train


class Line:
  """y = x w, with noise so that keys matter."""

  def init(self, rng):
    del rng
    return {"w": {"kernel": jnp.zeros((2, 1))}, "frozen": jnp.ones(1)}

  def loss(self, params, rng, batch):
    x = batch["x"] + 0.01 * jax.random.normal(rng, batch["x"].shape)
    error = x @ params["w"]["kernel"] - batch["y"]
    loss = jnp.mean(error**2) * params["frozen"][0]
    return loss, {"error": jnp.mean(jnp.abs(error))}


class Points:

  def __init__(self):
    rng = np.random.default_rng(0)
    self.x = rng.normal(size=(64, 2)).astype(np.float32)
    self.y = self.x @ np.array([[1.0], [-2.0]], np.float32)

  def __len__(self):
    return len(self.x)

  def __getitem__(self, i):
    return {"x": self.x[i], "y": self.y[i]}


def config(steps, **changes):
  return common.train(
      steps, 8, common.optim(0.1, 2, weight_decay=0.0),
      trainable="kernel", ema=True, log_steps=1, eval_steps=5,
      checkpoint_seconds=0.0, **changes)


class Frames:
  """Samples of `count` rows, as clips of a bucket have frames."""

  def __init__(self, count):
    self.x = np.random.default_rng(count).normal(
        size=(16, count, 2)).astype(np.float32)

  def __len__(self):
    return len(self.x)

  def __getitem__(self, i):
    return {"x": self.x[i], "y": self.x[i] @ np.array([[1.0], [-2.0]],
                                                      np.float32)}


class Pushes:
  """Moves a weight every third step; counts them in its memory."""

  def memory(self):
    return {"count": jnp.zeros((), jnp.int32)}

  def maintain(self, params, memory, scalars, step, rng):
    count = memory["count"] + (scalars["error"] > 0)
    due = count == 3
    push = due * (1 + 0.1 * jax.random.normal(rng)) * (step > 2)
    kernel = params["w"]["kernel"] + push
    return (params | {"w": {"kernel": kernel}},
            {"count": jnp.where(due, 0, count)})


def fit(folder, steps, total=None, buckets=(), upkeep=None):
  batches = loader.bucketed(
      [[(Frames(count), 1.0)] for count in buckets] or [[(Points(), 1.0)]],
      8, 0)
  settings = config(total or steps)
  model = Line()
  if total:  # stops after `steps`, as a killed run does

    class Killed(Exception):
      pass

    count = 0

    class Stops:

      def __next__(self):
        nonlocal count
        count += 1
        if count > steps:
          raise Killed
        return next(batches)

      get_state, set_state = batches.get_state, batches.set_state

    with pytest.raises(Killed):
      train.fit(model, model.init(None), Stops(), settings, folder, name="t",
                upkeep=upkeep)
    batches.close()
    return None
  result = train.fit(
      model, model.init(None), batches, settings, folder, name="t",
      evaluate=lambda params, step: {"w0": float(params["w"]["kernel"][0, 0])},
      upkeep=upkeep)
  batches.close()
  return result


def test_learns_and_leaves_the_frozen_alone(tmp_path):
  result = fit(tmp_path, 60)
  np.testing.assert_allclose(
      result.params["w"]["kernel"][:, 0], [1.0, -2.0], atol=0.2)
  assert result.params["frozen"] == 1.0
  losses = [row["loss"] for row in result.history if "loss" in row]
  assert len(losses) == 60
  assert losses[-1] < 0.1 * losses[0]


def test_killed_and_resumed_is_bit_equal(tmp_path):
  whole = fit(tmp_path / "whole", 12)
  fit(tmp_path / "parts", 5, total=12)
  parts = fit(tmp_path / "parts", 12)
  jax.tree.map(np.testing.assert_array_equal, whole.params, parts.params)
  without = [row for row in whole.history if "w0" not in row]
  assert without == [row for row in parts.history if "w0" not in row]


def test_buckets_of_frames_resume_bit_equal(tmp_path, monkeypatch):
  """With one compiled step for each of them."""
  shapes, loss = [], Line.loss

  def traced(self, params, rng, batch):
    shapes.append(batch["x"].shape)
    return loss(self, params, rng, batch)

  monkeypatch.setattr(Line, "loss", traced)
  whole = fit(tmp_path / "whole", 12, buckets=(2, 3))
  assert sorted(shapes) == [(8, 2, 2), (8, 3, 2)]
  fit(tmp_path / "parts", 5, total=12, buckets=(2, 3))
  parts = fit(tmp_path / "parts", 12, buckets=(2, 3))
  jax.tree.map(np.testing.assert_array_equal, whole.params, parts.params)


def test_upkeep_changes_parameters_and_resumes_bit_equal(tmp_path):
  whole = fit(tmp_path / "whole", 12, upkeep=Pushes())
  plain = fit(tmp_path / "plain", 12)
  assert np.abs(whole.params["w"]["kernel"]
                - plain.params["w"]["kernel"]).max() > 0.1
  fit(tmp_path / "parts", 5, total=12, upkeep=Pushes())
  parts = fit(tmp_path / "parts", 12, upkeep=Pushes())
  jax.tree.map(np.testing.assert_array_equal, whole.params, parts.params)


class Watched:
  """The points' batches, after what is to happen at a step."""

  def __init__(self, happens):
    self.happens, self.step = happens, 0
    self.batches = loader.bucketed([[(Points(), 1.0)]], 8, 0)

  def __next__(self):
    self.step += 1
    batch = next(self.batches)
    return self.happens.get(self.step, lambda batch: batch)(batch)

  def get_state(self):
    return self.batches.get_state() | {"step": self.step}

  def set_state(self, state):
    self.step = state.pop("step")
    self.batches.set_state(state)


def watched(folder, happens, steps=12, **changes):
  settings = config(steps)
  settings.update({"checkpoint_seconds": 1e9, "log_steps": 4} | changes)
  batches = Watched(happens)
  try:
    return train.fit(
        Line(), Line().init(None), batches, settings, folder, name="t")
  finally:
    batches.batches.close()


def told_to_stop(batch):
  os.kill(os.getpid(), signal.SIGTERM)
  return batch


def broken(batch):
  return batch | {"y": np.full_like(batch["y"], np.nan)}


def saved_steps(folder):
  return sorted(path.name for path in (folder / "steps").iterdir())


def test_a_run_that_is_told_to_stop_saves_at_once(tmp_path, capsys):
  whole = watched(tmp_path / "whole", {})
  folder = tmp_path / "parts"
  with pytest.raises(errors.Stopped):
    watched(folder, {5: told_to_stop})
  assert saved_steps(folder) == ["5"]
  parts = watched(folder, {})
  assert "goes on at step 5 of 12" in capsys.readouterr().out
  jax.tree.map(np.testing.assert_array_equal, whole.params, parts.params)
  assert whole.history == parts.history


def test_not_finite_stops_with_the_step_and_keeps_the_last_good(tmp_path):
  with pytest.raises(errors.UserError, match="not finite at step 6;"):
    watched(tmp_path, {6: broken}, checkpoint_seconds=0.0)
  assert saved_steps(tmp_path) == ["4", "5"]


def test_not_finite_steps_can_be_left_out(tmp_path):
  whole = watched(tmp_path / "whole", {}, nonfinite="skip")
  found = watched(tmp_path / "bad", {6: broken, 7: broken}, nonfinite="skip")
  counts = [row.get("nonfinite_steps", 0) for row in found.history]
  assert counts == [0, 2, 2]
  kernel = found.params["w"]["kernel"]
  assert np.isfinite(kernel).all()
  assert (kernel != whole.params["w"]["kernel"]).all()
  with pytest.raises(errors.ConfigError, match="have: stop, skip"):
    watched(tmp_path / "typo", {}, nonfinite="ignore")


def test_speed_is_told_and_listeners_hear_all(tmp_path, monkeypatch, capsys):
  heard, traced = [], []

  class SummaryWriter:

    def __init__(self, folder):
      heard.append(folder)

    def add_scalar(self, name, value, step):
      heard.append((name, step))

    def close(self):
      heard.append("closed")

  monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(
      SummaryWriter=SummaryWriter))
  monkeypatch.setattr(monitor, "peak", lambda: 1e6)
  monkeypatch.setattr(jax.profiler, "start_trace", traced.append)
  monkeypatch.setattr(jax.profiler, "stop_trace", lambda: traced.append("end"))
  with monitor.wishing(monitor.Wishes(tensorboard=True, profile=(2, 3))):
    watched(tmp_path, {3: lambda batch: traced.append("step 3") or batch})
  rows = metrics.read(tmp_path / "speed.jsonl")
  assert [row["step"] for row in rows] == [1, 4, 8, 12]
  assert rows[0]["compile_seconds"] > 0
  for row in rows[1:]:
    assert row["seconds_per_step"] > 0 and 0 <= row["input_wait"] < 1
    assert row["samples_per_second"] == pytest.approx(
        8 / row["seconds_per_step"])
    assert row["memory_bytes"] > 1e6
    # y = x w of 8 samples, and the gradient of w.
    assert row["flops_per_second"] * row["seconds_per_step"] == pytest.approx(
        2 * 2 * 8 * 2)
    assert row["mfu"] == pytest.approx(
        row["flops_per_second"] / (1e6 * jax.device_count()))
  assert heard[0] == str(tmp_path / "tensorboard") and heard[-1] == "closed"
  assert ("loss", 4) in heard and ("speed/input_wait", 12) in heard
  assert traced == [str(tmp_path / "profile"), "step 3", "end"]
  assert "trace is in" in capsys.readouterr().out


def test_wishes_that_cannot_be_met(monkeypatch):
  monkeypatch.setitem(sys.modules, "wandb", None)
  with pytest.raises(errors.ConfigError, match=r"dreamgen_jax\[wandb\]"):
    monitor.Wishes(wandb="project").check()
  assert monitor.profile_steps("10:13") == (10, 13)
  assert monitor.profile_steps("7") == (7, 7)
  for text in ("0", "5:4", "a"):
    with pytest.raises(errors.ConfigError, match=f"--profile_steps={text}"):
      monitor.profile_steps(text)


def test_nothing_to_train_is_an_error(tmp_path):
  with pytest.raises(errors.ConfigError, match="matches no parameter"):
    settings = config(2)
    settings.trainable = "nothing"
    train.fit(Line(), Line().init(None), None, settings, tmp_path, name="t")


def test_history_drops_a_cut_off_line(tmp_path):
  path = tmp_path / "history.jsonl"
  path.write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "lo')
  assert metrics.read(path) == [{"step": 1, "loss": 1.0}]
