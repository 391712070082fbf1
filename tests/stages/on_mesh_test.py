"""What is tuned never lies whole on one device, nor on the host."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np

from dreamgen_jax.encoders import tokenizer
from dreamgen_jax.stages import models
from dreamgen_jax.world_models import wan

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEC = dict(name="wan", preset="nano", kw=dict(
    frames=5, height=32, width=32, vae=dict(dim_mult=(1, 1, 1)),
    transformer=dict(width=128, heads=2, ffn=512, layers=3)))

# Tunes in all parameters and with adapters, as the stage does, and looks at
# what is read, put on devices, and held by them.
PROGRAM = """
import collections, gc, pathlib, sys
import jax, numpy as np
from configs import common
from dreamgen_jax import lazy, sharding
from dreamgen_jax.stages import finetune, models, train, world_model
from tests.stages import on_mesh_test

folder = pathlib.Path(sys.argv[1])
spec = dict(on_mesh_test.SPEC, source=str(folder))
on, rules = sharding.mesh({"fsdp": 8}), models.rules("world_models", spec)
put, read, pieces = jax.device_put, lazy.Parameter.read, [0]

def watched_put(x, to=None, **more):
  for leaf, lies in zip(jax.tree.leaves(x), jax.tree.leaves(
      jax.tree.broadcast(to, x))):
    if not isinstance(leaf, jax.Array):
      part = getattr(lies, "shard_shape", lambda shape: shape)(leaf.shape)
      pieces.append(np.prod(part) * leaf.dtype.itemsize)
  return put(x, to, **more)

def watched_read(self, *index):
  found = read(self, *index)
  pieces.append(found.nbytes)
  return found

def held():
  gc.collect()
  found = collections.Counter()
  for array in jax.live_arrays():
    for shard in array.addressable_shards:
      found[shard.device] += shard.data.nbytes
  return max(found.values())

class Batches:
  held = 0
  def __next__(self):
    self.held = self.held or held()  # before checkpoints are copied
    random = np.random.default_rng(0)
    return {name: random.normal(size=leaf.shape).astype(np.float32)
            for name, leaf in base.model.example(8).items()}
  def get_state(self):
    return {}

jax.device_put, lazy.Parameter.read = watched_put, watched_read
base = world_model.load_base(spec, ["transformer"], on)
size = sum(leaf.nbytes for leaf in jax.tree.leaves(base.params["transformer"]))
def tune(name, adapters, trained, copies):
  config = common.section(lora=adapters, text_dropout=0.1, train=common.train(
      2, 8, common.optim(1e-3, 1), trainable=trained, log_steps=1,
      mesh=common.section(fsdp=8)))
  empty = {"text": np.zeros(base.model.example(1)["text"].shape[1:],
                            np.float32)}
  params = finetune.start(
      config, base.params["transformer"], empty,
      lambda init: sharding.make(init, rules, on))
  batches = Batches()
  result = train.fit(
      finetune.objective(config, base.model, "transformer"), params, batches,
      config.train, folder / name, name=name, rules=rules)
  # Base, parameters, two moments and a copy: an eighth of each, and what is
  # too small to be divided.
  assert batches.held < 1.4 * copies * size / 8, (name, batches.held, size)
  return result.params

tune("full", None, "^base/", 5)
adapters = dict(rank=4, alpha=4.0, match=r"blocks/.*(q|k|v|o)$")
tuned = tune("lora", adapters, "^lora/", 2)["lora"]
one = tuned["blocks"]["self_attn"]["q"]["lora_a"]
assert one.addressable_shards[0].data.shape == (3, 16, 4), one.sharding
merged = world_model.merge(base.params, {"transformer": tuned}, adapters)
one = merged["transformer"]["blocks"]["self_attn"]["q"]["kernel"]
assert one.addressable_shards[0].data.shape == (3, 16, 128), one.sharding
assert max(pieces) < size / 8, (max(pieces), size)
print("nothing is whole anywhere")
"""


def test_no_device_and_no_host_holds_the_whole(tmp_path):
  model = models.build("world_models", SPEC)
  random = np.random.default_rng(0)
  params = jax.tree.map(
      lambda leaf: 0.1 * random.normal(size=leaf.shape).astype(np.float32),
      jax.eval_shape(model.init, jax.random.key(0)))
  wan.save(tmp_path, model, params, tokenizer.train(["push"], 50))
  done = subprocess.run(
      [sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT,
      capture_output=True, text=True, env=os.environ | {
          "XLA_FLAGS": "--xla_force_host_platform_device_count=8 "
                       "--xla_backend_optimization_level=0",
          "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)})
  assert "nothing is whole anywhere" in done.stdout, done.stderr[-3000:]
