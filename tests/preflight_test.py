"""What preflight finds wrong, and that it finds nothing wrong with what is."""

import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from configs import common
from dreamgen_jax import errors, hosts, lora, preflight, registry


def _config(**sections):
  return common.section(
      tune=common.section(stage="finetune", **sections)).lock()


def test_devices_and_batches(tmp_path):
  train = common.train(2, 8 * jax.device_count(), common.optim(1e-3, 1))
  lines = list(preflight.devices(_config(train=train), tmp_path))
  assert "1 hosts" in lines[0] and "8 samples" in lines[1].replace(
      str(8 * jax.device_count()), "8")
  train.mesh.data = jax.device_count() + 1
  with pytest.raises(errors.ConfigError, match="multiply to the"):
    list(preflight.devices(_config(train=train), tmp_path))


def test_a_disk_that_hosts_do_not_share(tmp_path, monkeypatch):
  monkeypatch.setattr(preflight, "PROBE_BYTES", 1 << 16)
  config, workdir = _config(), tmp_path / "run"
  (line,) = preflight.disk(config, workdir)
  assert "MB/s" in line and "GB free" in line
  assert [path.name for path in workdir.iterdir()] == ["run.json"]
  assert json.loads((workdir / "run.json").read_text())["config"]
  monkeypatch.setattr(hosts, "count", lambda: 2)
  monkeypatch.setattr(hosts, "barrier", lambda: None)
  with pytest.raises(errors.StorageError, match="files of 1 of 2 hosts"):
    list(preflight.disk(config, workdir))


def test_weights_that_are_not_there(tmp_path):
  model = common.section(name="wan", preset="nano", source="nano", kw={})
  (line,) = preflight.weights(_config(model=model), tmp_path)
  assert "wan/nano, 0.0" in line
  model.source = str(tmp_path / "gone")
  with pytest.raises(errors.CheckpointError, match="gone' is not there"):
    list(preflight.weights(_config(model=model), tmp_path))


def test_datasets_that_are_not_finished(tmp_path):
  (tmp_path / "set" / "data").mkdir(parents=True)
  config = _config(inputs=dict(videos=str(tmp_path / "set")))
  with pytest.raises(errors.DataError, match="not a finished dataset"):
    list(preflight.datasets(config, tmp_path))
  (line,) = preflight.datasets(_config(inputs={}), tmp_path)
  assert "names none" in line


@dataclasses.dataclass(frozen=True)
class Size:
  width: int
  experts: tuple[str, ...] = ("transformer",)


class Net(nn.Module):
  width: int

  @nn.compact
  def __call__(self, x):
    for name in ("q", "k"):
      x = jnp.tanh(nn.Dense(self.width, name=name)(x))
    return x


@dataclasses.dataclass(frozen=True)
class Model:
  """As a world model is, as far as adapters see."""

  config: Size

  def init(self, rng):
    return {"transformer": Net(self.config.width).init(
        rng, jnp.zeros((1, 4)))["params"]}

  def example(self, batch):
    return {"x": jax.ShapeDtypeStruct((batch, 4), jnp.float32)}

  def loss(self, params, rng, batch):
    found = Net(self.config.width).apply(
        {"params": params["transformer"]}, batch["x"])
    return jnp.sum(found), {}


def test_adapters_reach_the_output(tmp_path, monkeypatch):
  module = types.SimpleNamespace(
      Model=Model, PRESETS={"nano": Size(4), "big": Size(4096)})
  monkeypatch.setattr(registry, "find", lambda kind, name: module)
  config = _config(
      lora=common.section(rank=2, alpha=2.0, match=(r"(q|k)$",)),
      model=common.section(name="wan", preset="big", kw={}))
  (line,) = preflight.adapters(config, tmp_path)
  assert "rank 2 on 2 layers" in line and "2 of 2 reach" in line
  monkeypatch.setattr(lora, "adapted", lambda run, settings: (
      lambda base, tree: run(base)))
  with pytest.raises(errors.ConfigError, match="Only 0 of 2 adapters reach"):
    list(preflight.adapters(config, tmp_path))
  config.tune.lora.match = ("v$",)
  with pytest.raises(errors.ConfigError, match="No layer matches"):
    list(preflight.adapters(config, tmp_path))


def test_every_check_is_made_and_told(tmp_path, monkeypatch, capsys):
  file = tmp_path / "one.py"
  file.write_text("import ml_collections\n\ndef get_config(arg=None):\n"
                  "  return ml_collections.ConfigDict({'seed': 0})\n")

  def fails(config, workdir):
    raise errors.DataError("no episode")

  monkeypatch.setattr(preflight, "CHECKS", {
      "good": lambda config, workdir: ["fine"], "bad": fails,
      "links": preflight.collectives})
  monkeypatch.setattr(preflight, "PROBE_BYTES", 1 << 12)
  arguments = ["preflight", f"--config={file}", f"--workdir={tmp_path / 'w'}"]
  assert preflight.main(arguments) == 2
  said = capsys.readouterr()
  assert "good         fine" in said.out
  assert "bad          FAILS on host 0: no episode" in said.out
  assert "links        a sum of 0 MiB" in said.out
  assert "Not ready: bad." in said.err
  assert preflight.main(arguments[:2]) == 2
  assert "--workdir" in capsys.readouterr().err
