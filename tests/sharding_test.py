"""Meshes and rules: eight devices learn what one does; mistakes are named."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from dreamgen_jax import errors, sharding

ROOT = pathlib.Path(__file__).resolve().parents[1]
P = jax.sharding.PartitionSpec

# Trains a small Wan transformer on each mesh given, as stages do.
PROGRAM = """
import dataclasses, json, pathlib, sys
import jax, numpy as np
from configs import common
from dreamgen_jax.stages import train
from dreamgen_jax.world_models import wan
from dreamgen_jax.world_models.wan import dit

nano = wan.PRESETS["nano"]
model = wan.Model(dataclasses.replace(
    nano, frames=5, height=32, width=32, transformer=dit.Config(
        width=32, heads=2, layers=1, ffn=48, in_channels=20, out_channels=8,
        patch=(1, 2, 2), text_dim=12, text_len=4, freq_dim=16)))
rng = np.random.default_rng(0)
shapes = jax.eval_shape(model.init, jax.random.key(0))["transformer"]
params = {"transformer": jax.tree.map(
    lambda leaf: 0.3 * rng.normal(size=leaf.shape).astype(np.float32), shapes)}


class Batches:
  def __init__(self):
    self.rng = np.random.default_rng(1)

  def __next__(self):
    return {name: self.rng.normal(size=leaf.shape).astype(np.float32)
            for name, leaf in model.example(8).items()}

  def get_state(self):
    return {}


folder = pathlib.Path(sys.argv[1])
assert jax.device_count() == int(sys.argv[2])
for name, mesh in json.loads(sys.argv[3]).items():
  config = common.train(
      3, 8, common.optim(1e-3, 1), log_steps=1, mesh=common.section(**mesh))
  result = train.fit(model, params, Batches(), config, folder / name,
                     name=name, rules=wan.RULES)
  kernel = result.params["transformer"]["blocks"]["self_attn"]["q"]["kernel"]
  flat = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf
          in jax.tree_util.tree_leaves_with_path(result.params)}
  np.savez(folder / f"{name}.npz",
           loss=[row["loss"] for row in result.history],
           shard=kernel.addressable_shards[0].data.shape, **flat)
"""


def _train(folder, devices, meshes):
  flags = (f"--xla_force_host_platform_device_count={devices} "
           "--xla_backend_optimization_level=0 "
           "--xla_llvm_disable_expensive_passes=true")
  done = subprocess.run(
      [sys.executable, "-c", PROGRAM, str(folder), str(devices),
       json.dumps(meshes)], cwd=ROOT, capture_output=True, text=True,
      env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu",
                        "PYTHONPATH": str(ROOT)})
  assert not done.returncode, done.stderr[-3000:]
  return {name: dict(np.load(folder / f"{name}.npz")) for name in meshes}


@pytest.mark.slow
def test_eight_devices_learn_what_one_does(tmp_path):
  one = _train(tmp_path, 1, {"one": {}})["one"]
  many = _train(tmp_path, 8, {"tokens": {"data": 2, "context": 4},
                              "weights": {"fsdp": 4, "tensor": 2}})
  assert one.pop("shard").tolist() == [1, 32, 32]
  assert many["tokens"].pop("shard").tolist() == [1, 8, 32]
  assert many["weights"].pop("shard").tolist() == [1, 8, 16]
  assert len(one["loss"]) == 3
  for found in many.values():
    assert found.keys() == one.keys()
    for name, value in one.items():
      np.testing.assert_allclose(
          found[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


def test_mesh_takes_the_devices_there_are():
  count = jax.device_count()
  found = sharding.mesh({"fsdp": -1})
  assert dict(found.shape) == {
      "data": 1, "fsdp": count, "context": 1, "tensor": 1}
  assert found.axis_names == sharding.AXES


def test_mesh_mistakes():
  with pytest.raises(errors.ConfigError, match=r"\['model'\]; the axes are"):
    sharding.mesh({"model": 1})
  count = jax.device_count()
  for sizes in ({"data": count + 1}, {"data": -1, "fsdp": -1},
                {"data": -1, "tensor": count + 1}, {"data": -1, "fsdp": 0},
                {"data": -1, "fsdp": -2}):
    with pytest.raises(errors.ConfigError, match=f"to the {count} devices"):
      sharding.mesh(sizes)


def _mesh(**sizes):
  """A mesh of any size; rules only look at the sizes."""
  return jax.sharding.AbstractMesh(
      tuple(sizes.get(axis, 1) for axis in sharding.AXES), sharding.AXES)


RULES = [(r"q/kernel$", ("fsdp", "tensor")), (r"wide$", (("data", "fsdp"),)),
         (r"bias$", ())]


def _specs(tree, on):
  tree = jax.tree.map(
      lambda shape: jax.ShapeDtypeStruct(shape, np.float32), tree,
      is_leaf=lambda leaf: isinstance(leaf, tuple))
  return jax.tree.map(
      lambda found: found.spec, sharding.by_rules(tree, RULES, on))


def test_rules_name_the_last_axes():
  on = _mesh(data=2, fsdp=4, tensor=2)
  specs = _specs({"q": {"kernel": (8, 6), "bias": (6,)},
                  "stack": {"q": {"kernel": (3, 8, 6)}}, "wide": (16, 8)}, on)
  assert specs["q"]["kernel"] == P("fsdp", "tensor")
  assert specs["stack"]["q"]["kernel"] == P(None, "fsdp", "tensor")
  assert specs["wide"] == P(None, ("data", "fsdp"))
  assert specs["q"]["bias"] == P(None)


def test_an_axis_that_does_not_divide_is_left_out():
  on = _mesh(data=2, fsdp=4, tensor=2)
  specs = _specs({
      "a": {"q": {"kernel": (6, 6)}}, "b": {"q": {"kernel": (8, 5)}},
      "c": {"q": {"kernel": (6,)}}, "d": {"q": {"kernel": ()}},
      "e": {"wide": (4,)}}, on)
  assert specs["a"]["q"]["kernel"] == P(None, "tensor")
  assert specs["b"]["q"]["kernel"] == P("fsdp", None)
  assert specs["c"]["q"]["kernel"] == P("tensor")
  assert specs["d"]["q"]["kernel"] == P()
  assert specs["e"]["wide"] == P(None)


def test_an_uncovered_parameter_is_an_error():
  with pytest.raises(errors.ConfigError, match="covers parameter 'a/gamma'"):
    _specs({"a": {"gamma": (4,)}}, _mesh())


def test_batches_divide_over_data_and_fsdp():
  batch = {"x": np.arange(6.0, dtype=np.float32).reshape(3, 2)}
  with pytest.raises(errors.ConfigError, match=r"3 is not .* data\*fsdp = 4"):
    sharding.place_batch(batch, _mesh(data=2, fsdp=2))
  placed = sharding.place_batch(batch, sharding.mesh({"data": -1}))
  np.testing.assert_array_equal(placed["x"], batch["x"])
  assert placed["x"].sharding.spec == P(("data", "fsdp"))


def test_slices_part_the_outermost_axis():
  def devices(slices, each):
    return [_Device(slice_index=number, id=number * each + i)
            for number in range(slices) for i in range(each)]

  on = sharding.mesh({"data": 2, "fsdp": 4}, devices(2, 4))
  assert dict(on.shape) == {"data": 2, "fsdp": 4, "context": 1, "tensor": 1}
  for row in range(2):  # each row of data is one slice
    assert {d.slice_index for d in on.devices[row].flat} == {row}
  on = sharding.mesh({"fsdp": -1}, devices(2, 4))
  assert {d.slice_index for d in on.devices[0, :4].flat} == {0}
  with pytest.raises(errors.ConfigError, match="2 slices part neither data"):
    sharding.mesh({"context": 8}, devices(2, 4))


@dataclasses.dataclass(frozen=True)
class _Device:
  """As much of a device as a mesh looks at."""

  slice_index: int
  id: int
  process_index: int = 0
  platform: str = "cpu"
  device_kind: str = "cpu"
