"""Kills the whole road again and again, and looks whether anything was lost.

  python tools/kill_soak.py --folder=DIR [--kills=50] [--seconds=20] [--hosts=1]
      [--seed=0] [--stop] [--stage_steps=12] [--config=configs/quickstart.py]
      [--toy] [further options of main]

Walks the quickstart's road at nano size once undisturbed, into DIR/whole; then
again into DIR/killed_1, where every process gets SIGKILL (with --stop: SIGTERM,
and SIGKILL 20 seconds later) after a random time, on average --seconds of its
processor time after the last, until the road is done and there were --kills in
all; further roads are walked (DIR/killed_2, ...) while kills are missing. With
several hosts one of them dies, and the others follow. Prints, for each stage,
how often it was killed and whether what it left is identical: datasets, trained
parameters, histories, metrics.

With --toy the stages train a line and write grey videos: the same pipeline,
loop, loader, checkpoints and writer, in seconds instead of minutes.

A single process is forked from one that has imported everything, and compiled
programs are taken from the first road, so that time goes into the work.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np

from dreamgen_jax import checkpoint
from dreamgen_jax import options as load_options

ROOT = pathlib.Path(__file__).resolve().parents[1]
SMALL = {
    "demonstrations.episodes": 12, "demonstrations.shards": 2,
    "heldout.episodes": 2, "heldout.shards": 1, "prompts.episodes": 14,
    "prompts.shards": 1, "rehearsal.episodes": 8, "rehearsal.shards": 1,
    "wander.episodes": 8, "wander.shards": 1, "seen.shards": 2,
    "kept.shards": 1,
    "finetune.train.batch_size": 2, "finetune.batch_size": 2,
    "finetune.evaluate_clips": 2, "finetune.sampler.steps": 2,
    "finetune.sampler.batch_size": 2, "dreams.steps": 2,
    "dreams.batch_size": 2, "dreams.shards": 2, "labeler.train.batch_size": 4,
    "neural.samples": 2, "neural.shards": 1, "heldout_labels.samples": 2,
    "heldout_labels.shards": 1, "evaluation.trials": 2,
    "evaluation.batch_size": 2, "evaluation.horizon": 8,
    "evaluation.verbs": "('pick_place', 'push')",
    "evaluation.novel": "('push',)", "report.novel": "('push',)"}
TRAINED = ("finetune", "labeler", "policy_neural", "policy_mixed",
           "policy_demos")
# Of an artefact: what depends on when and where it was made, as the size of a
# report does, which tells times.
PASSING = {"created", "seconds", "versions", "bytes"}


TOY = """
from configs import common

def get_config():
  train = common.train(40, 8, common.optim(0.1, 2), ema=True, log_steps=1,
                       eval_steps=10, checkpoint_seconds=0.0)
  return common.section(
      first=common.section(stage="toy_write"),
      line=common.section(stage="toy_train", train=train),
      second=common.section(stage="toy_write", inputs=dict(videos="first")),
      again=common.section(stage="toy_train", train=train,
                           inputs=dict(start="line")))
"""


def toy(folder):
  """Registers the toy stages; returns their config's file."""
  import types

  import jax.numpy as jnp

  from dreamgen_jax import hosts
  from dreamgen_jax import types as records
  from dreamgen_jax.data import loader, rlds
  from dreamgen_jax.stages import train

  robot = records.Embodiment(
      name="sticks", id=1, state=(records.Key("x", 1),),
      action=(records.Key("x", 1),), cameras={"front": "front"},
      clock=records.Clock(4.0, 4.0), template="{instruction}")

  def write(config, inputs, folder):
    before = rlds.Dataset(inputs["videos"] / "data") if inputs else None
    ids = before.ids if before else [f"episode_{i:02d}" for i in range(32)]

    def make(name):
      grey = 8 * ids.index(name)
      if before:
        grey = 255 - before.episode(before.ids.index(name)).video["front"][
            0, 0, 0, 0]
      return records.Episode(
          id=name, instruction="do", embodiment=robot.name, clock=robot.clock,
          video={"front": np.full((3, 16, 16, 3), grey, np.uint8)},
          state=np.full((3, 1), grey, np.float32), action=None,
          origin=records.Origin(kind="robot", dataset="toy", seed=0))

    found = rlds.write(folder / "data", folder.name, ids, robot, make=make,
                       num_shards=4, **hosts.team())
    return {"digest": found.digest}

  class Line:

    def loss(self, params, rng, batch):
      noise = 0.01 * jax.random.normal(rng, batch["y"].shape)
      error = batch["x"] @ params["w"] + noise - batch["y"]
      return jnp.mean(error**2), {}

  class Points:
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)

    def __len__(self):
      return len(self.x)

    def __getitem__(self, i):
      return {"x": self.x[i], "y": self.x[i, :1] - self.x[i, 1:2]}

  def learn(config, inputs, folder):
    start = checkpoint.load(inputs["start"] / "checkpoint")[0] if inputs else {
        "w": np.zeros((4, 1), np.float32)}
    batches = loader.loader([(Points(), 1.0)], 8, 0,
                            **train.share(config.train))
    result = train.fit(
        Line(), start, batches, config.train, folder, name=folder.name,
        evaluate=lambda params, step: {"w0": float(params["w"][0, 0])})
    batches.close()
    checkpoint.save(folder / "checkpoint", hosts.local(result.params), {})
    return {"loss": result.history[-1]["loss"]}

  for name, run in (("toy_write", write), ("toy_train", learn)):
    module = types.ModuleType(f"dreamgen_jax.stages.{name}")
    module.run = run
    sys.modules[module.__name__] = module
  (folder / "toy.py").write_text(TOY)
  return str(folder / "toy.py")


class Forked:
  """A run in a process of its own, with the interface of Popen."""

  def __init__(self, argv, log):
    self._process = multiprocessing.get_context("fork").Process(
        target=self._run, args=(argv, log))
    self._process.start()
    self.pid = self._process.pid

  def _run(self, argv, log):
    from dreamgen_jax import main as program

    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.exit(program.main(argv))

  def poll(self):
    return self._process.exitcode

  def wait(self, timeout=None):
    self._process.join(timeout)
    if self._process.exitcode is None:
      raise subprocess.TimeoutExpired("main", timeout)
    return self._process.exitcode

  returncode = property(poll)


def start(workdir, options, hosts):
  """The processes of one run."""
  argv = ["main", f"--workdir={workdir}", *options]
  if hosts == 1:
    return [Forked(argv, f"{workdir}.0.log")]
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  running = []
  for i in range(hosts):
    with open(f"{workdir}.{i}.log", "a") as log:
      running.append(subprocess.Popen(
          [sys.executable, "-m", "dreamgen_jax.main", *argv[1:]], cwd=ROOT,
          env=os.environ | {
              "PYTHONPATH": str(ROOT), "JAX_COORDINATOR_ADDRESS": address,
              "JAX_NUM_PROCESSES": str(hosts), "JAX_PROCESS_ID": str(i)},
          stdout=log, stderr=subprocess.STDOUT, start_new_session=True))
  return running


def end(running, asked):
  """Ends them all; one of them is asked to stop first, if one is given."""
  signals = [(asked, signal.SIGTERM)] if asked else []
  for each, sign in [*signals, *((each, signal.SIGKILL) for each in running)]:
    try:
      os.killpg(each.pid, sign)
      each.wait(20)
    except ProcessLookupError:
      each.wait(20)
    except subprocess.TimeoutExpired:
      continue


def stage_of(workdir):
  """The stage that is at work, by the log."""
  log = pathlib.Path(f"{workdir}.0.log")
  said = re.findall(r"^\[([\w]+)\] (starts|finished)", log.read_text(), re.M)
  return said[-1][0] if said and said[-1][1] == "starts" else "between"


def worked(process):
  """Processor seconds of a process, by Linux's account."""
  try:
    stat = pathlib.Path(f"/proc/{process.pid}/stat").read_text()
  except FileNotFoundError:
    return 0.0
  ticks = stat.rpartition(")")[2].split()[11:13]
  return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def walk(workdir, options, arguments, chance, deaths):
  """Until the road is done; `deaths` collects the stages that were killed."""
  while True:
    running = start(workdir, options, arguments.hosts)
    until = None
    if chance and sum(deaths.values()) < arguments.kills:
      until = chance.expovariate(1 / arguments.seconds)
    while any(each.poll() is None for each in running):
      time.sleep(0.05)
      if until and worked(running[0]) > until:
        stage = stage_of(workdir)
        deaths[stage] = deaths.get(stage, 0) + 1
        end(running, chance.choice(running) if arguments.stop else None)
        print(f"{sum(deaths.values()):3} killed in {stage}", flush=True)
        break
    else:
      codes = [each.returncode for each in running]
      if not any(codes):
        return
      raise SystemExit(f"A run failed by itself: {codes}, see {workdir}.*.log")


def steady(value):
  """An artefact's record without what passes."""
  if isinstance(value, dict):
    return {name: steady(inner) for name, inner in value.items()
            if name not in PASSING}
  return value


def leaves(folder):
  """What a stage left: name -> comparable value."""
  found = {}
  for file in sorted(folder.rglob("*")):
    name = file.relative_to(folder).as_posix()
    if name.startswith(("checkpoint/", "steps/", "speed", "tensorboard")):
      continue
    if file.name == "artefact.json":
      found[name] = steady(json.loads(file.read_text()))
    elif ".array_record-" in file.name or file.suffix in (
        ".npy", ".npz", ".jsonl", ".mp4"):
      found[name] = file.read_bytes()
    elif file.name == "trials.json":
      found[name] = json.loads(file.read_text())
  if (folder / "checkpoint").is_dir():
    tree, _ = checkpoint.load(folder / "checkpoint")
    found |= {f"checkpoint{jax.tree_util.keystr(path)}": np.asarray(
        leaf).tobytes() for path, leaf in
              jax.tree_util.tree_leaves_with_path(tree)}
  return found


def main():
  """Prints the table; exits with 1 if anything differs."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--folder", type=pathlib.Path, required=True)
  parser.add_argument("--kills", type=int, default=50)
  parser.add_argument("--seconds", type=float, default=20.0)
  parser.add_argument("--hosts", type=int, default=1)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--stop", action="store_true")
  parser.add_argument("--stage_steps", type=int, default=12)
  parser.add_argument("--toy", action="store_true")
  parser.add_argument("--config", default="configs/quickstart.py")
  arguments, rest = parser.parse_known_args()
  folder = arguments.folder.absolute()
  folder.mkdir(parents=True, exist_ok=True)
  os.chdir(ROOT)
  values = SMALL | {
      f"{name}.train.{key}": value for name in TRAINED for key, value in (
          ("steps", arguments.stage_steps), ("checkpoint_seconds", 0.0))}
  if arguments.toy:
    if arguments.hosts > 1:
      parser.error("--toy forks its stages, which several hosts cannot")
    arguments.config = toy(folder)
  else:
    for stage in ("collect", "finetune", "dream", "label", "repaint", "replay",
                  "train_labeler", "train_policy", "evaluate", "report"):
      importlib.import_module(f"dreamgen_jax.stages.{stage}")
  known = load_options.load(arguments.config)
  options = [f"--config={arguments.config}", *rest, *(
      f"--config.{name}={value}" for name, value in values.items()
      if name.split(".")[0] in known)]
  begin = time.monotonic()
  walk(folder / "whole", options, arguments, None, {})
  print(f"undisturbed: {time.monotonic() - begin:.0f} s", flush=True)
  chance, deaths, begin = random.Random(arguments.seed), {}, time.monotonic()
  roads = []
  while sum(deaths.values()) < arguments.kills:
    roads.append(folder / f"killed_{len(roads) + 1}")
    shutil.rmtree(roads[-1], ignore_errors=True)
    shutil.copytree(folder / "whole" / ".compile_cache",
                    roads[-1] / ".compile_cache")
    shutil.copy(folder / "whole" / "run.json", roads[-1])
    walk(roads[-1], options, arguments, chance, deaths)
  print(f"{sum(deaths.values())} kills, {len(roads)} roads: "
        f"{time.monotonic() - begin:.0f} s", flush=True)
  differ = 0
  for stage in sorted(path.parent for path in
                      (folder / "whole").glob("*/artefact.json")):
    want, wrong = leaves(stage), set()
    for road in roads:
      found = leaves(road / stage.name)
      wrong |= {name for name in want.keys() | found.keys()
                if want.get(name) != found.get(name)}
    differ += bool(wrong)
    shown = f"DIFFERS: {', '.join(sorted(wrong)[:3])}" if wrong else (
        f"identical ({len(want)} things)")
    print(f"{stage.name:16} {deaths.get(stage.name, 0):4} kills  {shown}")
  print(f"{'between stages':16} {deaths.get('between', 0):4} kills")
  return bool(differ)


if __name__ == "__main__":
  sys.exit(main())
