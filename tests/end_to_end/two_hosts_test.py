"""Two processes train, write and dream; one is told to stop, one is killed."""

import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from dreamgen_jax import dreamer, errors, hosts, sharding, types
from dreamgen_jax.data import loader, rlds
from dreamgen_jax.stages import dream, train
from tests.end_to_end import dream_test

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS, TOLD, DREAMS = 12, 5, 10
IDS = [f"episode_{i}" for i in range(8)]
ROBOT = types.Embodiment(
    name="sticks", id=1, state=(types.Key("x", 1),),
    action=(types.Key("x", 1),), cameras={"front": "front"},
    clock=types.Clock(4.0, 4.0), template="{instruction}")


class Line:
  """y = x w; parameters wide enough to lie on both hosts."""

  def loss(self, params, rng, batch):
    error = batch["x"] @ params["w"] - batch["y"]
    return jnp.mean(error**2), {}


class Points:

  def __init__(self):
    self.x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    self.y = self.x @ np.arange(8, dtype=np.float32).reshape(4, 2)

  def __len__(self):
    return len(self.x)

  def __getitem__(self, i):
    return {"x": self.x[i], "y": self.y[i]}


def learn(folder, happens=lambda step: None):
  config = common.train(
      STEPS, 8, common.optim(0.1, 2, weight_decay=0.0), log_steps=1, ema=True,
      eval_steps=2,
      checkpoint_seconds=0.0, mesh=common.section(data=1, fsdp=-1))
  batches = loader.loader([(Points(), 1.0)], 8, 0, **train.share(config))

  class Watched:
    step = 0
    get_state = batches.get_state

    def set_state(self, state):
      batches.set_state(state)

    def __next__(self):
      self.step += 1
      happens(self.step)
      return next(batches)

  def evaluate(params, step):
    with hosts.locally(params) as params:
      # As dreams are shown in between: one host alone, with constraints.
      if hosts.first():
        shown = jax.jit(lambda w: sharding.constrain(w * step, "b l"))
        np.testing.assert_array_equal(shown(params["w"]), params["w"] * step)
    return {"w0": float(params["w"][0, 0])}

  try:
    result = train.fit(
        Line(), {"w": np.zeros((4, 2), np.float32)}, Watched(), config, folder,
        name="t", rules=[("w$", ("fsdp", None))], evaluate=evaluate)
  finally:
    batches.close()
  return hosts.local(result.params)["w"]


def write(path):
  made = []

  def make(id_):
    made.append(id_)
    seed = IDS.index(id_)
    return types.Episode(
        id=id_, instruction="do", embodiment=ROBOT.name, clock=ROBOT.clock,
        video={"front": np.full((3, 16, 16, 3), 20 * seed, np.uint8)},
        state=np.full((3, 1), seed, np.float32), action=None, origin=types.
        Origin(kind="robot", dataset="d", seed=seed))

  return rlds.write(path, "d", IDS, ROBOT, num_shards=2, digest="x", make=make,
                    **hosts.team()), made


def process(folder):
  """What each of the two runs."""
  hosts.join()
  assert hosts.count() == 2 and jax.device_count() == 2

  def tell(step):
    if step == TOLD and hosts.index() == 1:
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(1.0)  # the notice goes round in the background

  try:
    learn(folder / "train", tell)
    raise AssertionError("nobody was stopped")
  except errors.Stopped:
    pass
  write(folder / "both")
  draw = dreamer.Dreamer.dream

  def slow(*inputs):
    time.sleep(0.3)  # or all would be done before anybody is killed
    return draw(*inputs)

  dreamer.Dreamer.dream = slow
  dreams(folder, folder)


def dreams(folder, out):
  """The stage, with a model that learnt nothing."""
  dream.run(dream_test.config(batch_size=1, shards=2), {
      "world_model": folder / "tuned", "prompts": folder / "prompts"},
            out / "dreams")
  return rlds.Dataset(out / "dreams/data")


tuned = dream_test.tuned


@pytest.fixture(scope="module")
def survived(tmp_path_factory, tuned):
  """(folder that the two leave, dreams that were done)."""
  folder = tmp_path_factory.mktemp("hosts")
  (folder / "tuned").symlink_to(tuned)
  dream_test.prompts(folder / "prompts", count=DREAMS)
  chance = random.Random(0)
  dies, after = chance.randrange(2), chance.randrange(1, DREAMS // 2)
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  running = []
  for i in range(2):
    with (folder / f"{i}.txt").open("w") as said_by:
      running.append(subprocess.Popen(
          [sys.executable, __file__, str(folder)], cwd=ROOT, stdout=said_by,
          stderr=subprocess.STDOUT, env=os.environ | {
              "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2",
              "JAX_PROCESS_ID": str(i), "PYTHONPATH": str(ROOT)}))

  def said():
    return "\n".join((folder / f"{i}.txt").read_text()[-3000:]
                     for i in range(2))

  shards, until = folder / "dreams/data/_shards", time.monotonic() + 300

  def done():
    return len(list(shards.glob("pieces-*/[0-9a-f]*")))

  try:
    while done() < after:
      assert time.monotonic() < until, said()
      assert not any(each.poll() for each in running), said()
      time.sleep(0.02)
    running[dies].kill()
    running[dies].wait()
    time.sleep(1.0)  # the other goes on
  finally:
    for each in running:
      each.kill()
      each.wait()
  return folder, done()


@pytest.mark.slow
def test_one_host_goes_on_where_two_were_told_to_stop(survived, tmp_path):
  survived, _ = survived
  steps = sorted(int(path.name) for path in
                 (survived / "train" / "steps").iterdir())
  assert TOLD <= steps[-1] < STEPS
  history = survived / "train" / "history.jsonl"
  before = [json.loads(line) for line in history.read_text().splitlines()]
  assert len([row for row in before if "loss" in row]) == steps[-1]
  found = learn(survived / "train")
  # The mean over a batch is the same sum in another order.
  np.testing.assert_allclose(found, learn(tmp_path / "one"), rtol=1e-5)


@pytest.mark.slow
def test_two_hosts_write_what_one_does(survived, tmp_path):
  survived, _ = survived
  alone, made = write(tmp_path / "alone")
  assert made == IDS
  assert rlds.Dataset(survived / "both").digest == alone.digest
  for file in alone.path.glob("d-train*"):
    assert file.read_bytes() == (survived / "both" / file.name).read_bytes()


@pytest.mark.slow
def test_one_host_dreams_what_the_dead_one_left(
    survived, tmp_path, monkeypatch):
  folder, done = survived
  assert 0 < done < DREAMS and not (
      folder / "dreams/data/dataset_info.json").exists()
  whole = dreams(folder, tmp_path)
  draw, drawn = dreamer.Dreamer.dream, []

  def counted(*inputs):
    drawn.append(inputs)
    return draw(*inputs)

  monkeypatch.setattr(dreamer.Dreamer, "dream", counted)
  found = dreams(folder, folder)
  assert len(drawn) == DREAMS - done  # what was finished is not lost
  assert found.digest == whole.digest
  assert len(found) == DREAMS
  for file in whole.path.glob("*-train*"):
    assert file.read_bytes() == (found.path / file.name).read_bytes()


if __name__ == "__main__":
  from absl import flags

  flags.FLAGS(sys.argv[:1])
  process(pathlib.Path(sys.argv[1]))
