"""The steps that are planned are the stages' own; useful work is counted."""

import importlib.metadata
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from dreamgen_jax import errors, flops, options, sharding
from dreamgen_jax.plan import chips, report, search, steps
from dreamgen_jax.stages import train

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
FINETUNE = str(CONFIGS / "finetune_wan2_1_i2v_14b_gr1.py")
DREAM = str(CONFIGS / "dream_wan2_1_i2v_14b_gr1.py")


def _load(spec, **changes):
  config = options.load(spec, [(k, str(v)) for k, v in changes.items()])
  return config[options.stages(config)[0]]


def test_useful_operations():
  x, w = jnp.zeros((4, 8)), jnp.zeros((3, 8, 8))

  def loss(w, x):
    return jnp.sum(jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0])

  product = 2 * 4 * 8 * 8
  assert flops.count(loss, (w, x)) == 3 * product
  both = jax.grad(loss, (0, 1))
  assert flops.count(both, (w, x)) == 3 * 3 * product
  # What is frozen has no gradient, and nothing is counted for it.
  assert flops.count(jax.grad(loss, 1), (w, x)) <= 3 * 2 * product
  kernel = jnp.zeros((3, 3, 2, 5))
  assert flops.count(lambda x: jax.lax.conv_general_dilated(
      x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")),
      (jnp.zeros((1, 6, 6, 2)),)) == 2 * 6 * 6 * 5 * 3 * 3 * 2


def test_the_14b_s_step_at_full_size():
  """Against the operations that `12 l d^2 + 4 l d f + 4 l^2 d` counts."""
  section = _load(FINETUNE, chips=1)
  step = steps.build(section, None, jax.devices())
  state, fault, frozen, batch = step.programs[0].arguments
  assert batch["latent"].shape == (1, 21, 60, 104, 16)
  assert fault.shape == (2,) and step.programs[0].donated == (0,)
  leaves = jax.tree.leaves(frozen["base"])
  assert 16.3e9 < sum(leaf.size for leaf in leaves) < 16.5e9
  assert {str(leaf.dtype) for leaf in leaves} == {"bfloat16"}
  assert all(leaf.dtype == jnp.float32
             for leaf in jax.tree.leaves(state["params"]))
  assert step.calls == 300_000
  # 2 L + 3 A of a forward pass of 1.686 PFLOP, 52 % of it self-attention.
  useful = flops.count(*step.programs[0].useful)
  assert useful == pytest.approx(
      (2 * 0.48 + 3 * 0.52) * 1.686e15, rel=0.03)


def test_full_and_quantised_bases():
  small = "layers=2,chips=1,frames=5"
  full = steps.build(_load(f"{FINETUNE}:full,{small}"), None, jax.devices())
  trained = jax.tree.leaves(full.programs[0].arguments[0]["params"]["base"])
  assert {str(leaf.dtype) for leaf in trained} == {"float32"}
  lora, held = (sum(leaf.size * jnp.dtype(leaf.dtype).itemsize
                    for leaf in jax.tree.leaves(steps.build(
                        _load(f"{FINETUNE}:{kind}{small}"), None,
                        jax.devices()).programs[0].arguments[2]["base"]["blocks"]))
                for kind in ("", "qlora,"))
  assert held < 0.6 * lora  # and half of that on a TPU, where two are a byte


def test_a_dream_s_step():
  section = _load(f"{DREAM}:layers=2,frames=5,height=64,width=64,batch_size=2")
  step = steps.build(section, {"data": 1}, jax.devices())
  assert step.samples == 2 and step.calls is None
  with jax.set_mesh(step.mesh):
    latent, given, clip, text = (
        jax.eval_shape(part.function, *part.arguments)
        for part in step.programs)
  assert latent.shape == (2, 2, 8, 8, 16) == step.programs[2].arguments[1].shape
  assert given == {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
                   for name, leaf in step.programs[0].arguments[2].items()}
  assert text["text"].shape == (2, 512, 4096)
  assert [part.times for part in step.programs] == [1, 1, 1, 2]
  assert clip.shape == (2, 5, 64, 64, 3) and clip.dtype == jnp.uint8


class Line:
  """y = x w."""

  def loss(self, params, rng, batch):
    del rng
    return jax.numpy.mean((batch["x"] @ params["w"] - batch["y"])**2), {}


class Points:

  def __next__(self):
    x = np.arange(16, dtype=np.float32).reshape(8, 2) / 16
    return {"x": x, "y": x[:, :1]}

  def get_state(self):
    return {}


def test_a_program_is_compiled_once_and_run(tmp_path, monkeypatch, capsys):
  """`plan --save` writes what `fit` runs, and nothing else."""
  shapes = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), next(Points()))
  start = {"w": np.zeros((2, 1), np.float32)}

  def settings(rate, **more):
    return common.train(3, 8, common.optim(rate, 1), log_steps=1, **more)

  config = common.section(train=settings(0.1))
  on = sharding.mesh({"data": -1})
  step = steps._training(
      config, Line(), jax.tree.map(jnp.asarray, start), shapes,
      [("", ())], on)
  on = chips.Topology("here", "v5p", (1, 1, 1), 1, jax.devices())
  monkeypatch.setattr(importlib.metadata, "version", lambda name: "1")
  monkeypatch.setattr(report, "memory", lambda *found: {"peak_hbm_bytes": 1})
  file, cache = tmp_path / "step", tmp_path / "cache"
  program, = step.programs
  first = report._compiled(program, step.mesh, on, cache, file)
  monkeypatch.setattr(jax.stages.Lowered, "compile", None)  # not again
  assert report._compiled(program, step.mesh, on, cache, None) == first
  monkeypatch.undo()

  def fit(name, rate=0.1, **more):
    result = train.fit(Line(), start, Points(), settings(rate, **more),
                       tmp_path / name, name=name)
    return np.asarray(result.params["w"]), capsys.readouterr().out

  plain, said = fit("plain")
  assert "program" not in said
  found, said = fit("saved", program=str(file))
  assert "The program is read from" in said
  np.testing.assert_array_equal(found, plain)
  found, said = fit("other", rate=0.2, program=str(file))
  assert "holds another program" in said and np.any(found != plain)
  with pytest.raises(errors.ConfigError, match="no compiled program.*--save"):
    fit("none", program=str(tmp_path / "none"))


def test_mistakes_are_named():
  section = _load(f"{FINETUNE}:layers=1,frames=5,chips=1")
  with pytest.raises(errors.ConfigError, match="does not multiply to the 1"):
    steps.build(section, {"fsdp": 2}, jax.devices())
  other = _load(str(CONFIGS / "quickstart.py"))
  with pytest.raises(errors.ConfigError,
                     match="'collect' cannot be planned; .*: finetune, dream"):
    steps.build(other, None, jax.devices())


def test_the_search_keeps_less_until_it_fits():
  section = _load(FINETUNE)
  found = list(search.candidates(section, 64, None))
  assert [mesh for mesh, _ in found] == [
      {"fsdp": 64, "context": 1}, {"fsdp": 32, "context": 2},
      {"fsdp": 16, "context": 4}, {"fsdp": 8, "context": 8}]
  _, variants = found[2]
  assert [changes["remat"] for changes, _ in variants] == [
      "attention_inputs", "attention", "attention_offload", "offload"]
  _, variant = variants[-1]
  assert variant.model.kw.transformer.remat == "offload"
  assert variant.train.batch_size == 16
  assert variant.train.steps * 16 == 300_000 // 64 * 64
  assert section.train.batch_size == 64  # what was given stays


def test_what_to_change_and_what_it_costs():
  plan = dict(
      stage="finetune", topology="v5e:4x4", chips=16, calls=10,
      mesh=dict(data=2, fsdp=8, context=1, tensor=1), samples_per_step=32,
      fits=False, peak_hbm_bytes=20 << 30, hbm_bytes=15 << 30,
      seconds_per_step=None, collectives={}, notes=[], left_out=["much"])
  text = report.show(plan)
  for part in ("20.0 of 15.0 GiB", "DOES NOT FIT", "remat = 'attention_off",
               "down to 16", "nf4", "data axis to fsdp", "more chips", "much"):
    assert part in text
  fitting = plan | dict(
      fits=True, seconds_per_step=9.0, mfu=0.5, useful_flops=1e15,
      seconds={}, parts={}, loops=[], chip_seconds_per_sample=4.5,
      samples_per_hour=12_800.0)

  class On:
    chip = type("Chip", (), {"price": 2.0})

  money = report._money(fitting, On, None)
  assert money["chip_hours"] == pytest.approx(10 * 9 * 16 / 3600)
  assert money["dollars"] == 2 * money["chip_hours"]
  text = report.show(fitting | money)
  assert "MFU 50.0 %" in text and "$1 " in text and "try:" not in text


def test_labelers_and_policies_of_a_robot():
  config = options.load(str(CONFIGS / "quickstart.py"))
  for name, samples in (("labeler", 32), ("policy_neural", 32)):
    step = steps.build(config[name], None, jax.devices(), "tabletop_panda")
    assert step.samples == samples
    assert step.calls == config[name].train.steps
    state, _, _, batch = step.programs[0].arguments
    assert "ema" in state and len(batch["action"]) == samples
  with pytest.raises(errors.ConfigError, match="name it by --robot"):
    steps.build(config.labeler, None, jax.devices())
