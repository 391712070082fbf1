"""Tunes whole and on a quantised base, exports, dreams with stacked adapters.
"""

import jax
import numpy as np
import pytest

from configs import common
from dreamgen_jax import (
    checkpoint,
    convert,
    errors,
    lora,
    metrics,
    paths,
    registry,
    types,
)
from dreamgen_jax.data import rlds
from dreamgen_jax.encoders import tokenizer
from dreamgen_jax.stages import models, pipeline, world_model
from dreamgen_jax.world_models import wan
from dreamgen_jax.world_models.wan import lora_files
from tests import drawn

CAPTIONS = ["push the red block", "pull the blue block"]
MODEL = dict(name="wan", preset="nano", kw=dict(
    frames=5, height=16, width=16, text=dict(layers=1),
    vae=dict(dim_mult=(1, 1), temporal_downsample=(False,)),
    transformer=dict(layers=2, width=48, heads=1, ffn=96)))
SAMPLER = dict(steps=1, guidance=1.0, batch_size=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  """Two clips of noise, and a model that has learnt nothing."""
  folder = tmp_path_factory.mktemp("data")
  robot = registry.find("embodiments", "tabletop_panda").EMBODIMENT
  rng = np.random.default_rng(0)
  rlds.write(folder / "clips" / "data", "clips", [types.Episode(
      id=f"clip{i}", instruction=caption, embodiment=robot.name,
      video={"front": rng.integers(0, 256, (5, 16, 16, 3), np.uint8)},
      clock=types.Clock(5.0, 5.0), origin=types.Origin("sim", seed=i))
      for i, caption in enumerate(CAPTIONS)], robot, cameras=["front"])
  model = models.build("world_models", MODEL)
  params = drawn.params(model, 0.1, rng)
  wan.save(folder / "base", model, params, tokenizer.train(
      CAPTIONS, model.config.text.vocabulary), dtype=None)
  settings = lora.Config(2, 2.0, r"blocks/self_attn/(q|v)$")
  shapes = jax.eval_shape(
      lambda params: lora.init(jax.random.key(0), params, settings),
      params["transformer"])
  for name in ("one", "two"):
    tree = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    lora_files.FORMATS.write(
        folder / f"{name}.safetensors", {"transformer": tree}, settings,
        model.config, {"one": "diffusers", "two": "musubi"}[name])
  return folder


def _road(data, *adapters):
  """Two ways to tune, and dreams of what the second gave."""
  clips = str(data / "clips")
  made = common.section(seed=0)
  for name, settings in (
      ("whole", None), ("light", dict(
          rank=2, alpha=2.0, match=r"blocks/.*(q|v|ffn_in)$",
          quantize="int8"))):
    made[name] = common.section(
        stage="finetune", camera="front", text_dropout=0.1, lora=settings,
        model=dict(MODEL, source=str(data / "base"), adapters=(
            dict(path=str(data / "one.safetensors"), weight=-0.5),)),
        inputs=dict(demonstrations=clips, heldout=clips), batch_size=2,
        evaluate_clips=2, sampler=common.section(**SAMPLER),
        train=common.train(
            2, 2, common.optim(1e-2, 1), eval_steps=2,
            trainable="^lora/" if settings else "^base/"))
  made.dreams = common.section(
      stage="dream", inputs=dict(world_model="light", prompts=clips),
      camera="front", shards=1, adapters=adapters, **SAMPLER)
  return made.lock()


@pytest.fixture(scope="module")
def adapters(data):
  return (dict(path=str(data / "one.safetensors"), weight=0.5),
          dict(path=str(data / "two.safetensors")))


@pytest.fixture(scope="module")
def workdir(data, adapters, cheap, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("run") / "work"
  pipeline.run(_road(data, *adapters), workdir)
  return workdir


def _kernels(params):
  return {path: np.asarray(leaf) for path, leaf in paths.flatten(
      params).items() if path.endswith("/kernel")}


@pytest.mark.slow
def test_whole_and_light_tuning(workdir, data):
  base = world_model.load_base(dict(MODEL, source=str(data / "base")))
  whole, _ = checkpoint.load(workdir / "whole" / "checkpoint")
  before = _kernels(base.params["transformer"])
  after = _kernels(whole["transformer"])
  assert before.keys() == after.keys()
  for path, kernel in before.items():
    assert np.any(kernel != after[path]), path
  light, meta = checkpoint.load(workdir / "light" / "checkpoint")
  assert meta["lora"]["quantize"] == "int8"
  assert {path.rpartition("/")[2] for path in paths.flatten(light)} == {
      "lora_a", "lora_b"}
  for stage in ("whole", "light"):
    rows = list(metrics.read(workdir / stage / "history.jsonl"))
    assert len([row for row in rows if "loss" in row]) == 2
    assert any("heldout_error_0.5" in row for row in rows)
  first = [next(row["loss"] for row in metrics.read(
      workdir / stage / "history.jsonl") if "loss" in row)
      for stage in ("whole", "light")]
  # The same batch, noise and adapter: only the base's rounding differs.
  assert 0 < abs(first[0] - first[1]) < 1e-2 * first[0]


@pytest.mark.slow
def test_dreams_with_stacked_adapters(workdir, data, adapters, capsys):
  episode = rlds.Dataset(workdir / "dreams" / "data").episode(0)
  assert episode.video["front"].shape == (5, 16, 16, 3)
  tuned, *others = episode.origin.adapter.split()
  assert len(tuned) == 16
  assert sorted(other[16:] for other in others) == ["*0.5", "*1"]
  base, under = episode.origin.world_model.split()
  assert len(base) == 16 and under[16:] == "*-0.5"
  # The base was understood to hold -0.5 of what is now added with 0.5.
  bare = world_model.load_base(dict(MODEL, source=str(data / "base")))
  again = world_model.load_tuned(workdir / "light", adapters)
  assert again.adapter == episode.origin.adapter
  found = lora_files.FORMATS.read(data / "two.safetensors", bare.model.config)
  light, meta = checkpoint.load(workdir / "light" / "checkpoint")
  expected = world_model.merge(
      bare.params, light, meta["lora"], [
          (name, tree, own.scale) for name, (tree, own) in found.items()])
  left, right = (_kernels(params["transformer"])
                 for params in (expected, again.params))
  for path, kernel in left.items():
    np.testing.assert_allclose(kernel, right[path], atol=1e-5)
  swapped = world_model.load_tuned(workdir / "light", adapters[::-1])
  for path, kernel in _kernels(swapped.params["transformer"]).items():
    np.testing.assert_array_equal(kernel, right[path])
  capsys.readouterr()
  pipeline.run(_road(data, *adapters[::-1]), workdir)
  assert capsys.readouterr().out.count("finished before") == 3


@pytest.mark.slow
@pytest.mark.parametrize("dialect", lora_files.FORMATS.dialects)
def test_the_trained_adapter_comes_back(workdir, data, tmp_path, dialect):
  file = tmp_path / "robot.safetensors"
  assert convert.main([
      "convert", f"--lora={workdir / 'light'}", f"--output={file}",
      f"--dialect={dialect}"]) == 0
  config = models.build("world_models", MODEL).config
  (again, _), = lora_files.FORMATS.read(file, config).values()
  tuned, _ = checkpoint.load(workdir / "light" / "checkpoint")
  tuned, again = (paths.flatten(tree) for tree in (
      tuned["transformer"], again))
  assert tuned.keys() == again.keys()
  for path, leaf in tuned.items():
    assert np.asarray(leaf).tobytes() == again[path].tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["whole", "light"])
def test_what_was_tuned_becomes_a_released_folder(workdir, tmp_path, stage):
  assert convert.main([
      "convert", f"--tuned={workdir / stage}", f"--output={tmp_path}",
      "--dtype=float32"]) == 0
  tuned = world_model.load_tuned(workdir / stage)
  again = world_model.load_base(dict(MODEL, source=str(tmp_path)))
  found, wanted = (paths.flatten(made.params) for made in (again, tuned))
  assert found.keys() == wanted.keys()
  for path, leaf in wanted.items():
    np.testing.assert_array_equal(leaf, found[path], path)


@pytest.mark.slow
def test_what_is_no_adapter(workdir, tmp_path, capsys):
  def said(*arguments):
    capsys.readouterr()
    assert convert.main(["convert", *(f"--{text}" for text in arguments)]) == 2
    return capsys.readouterr().err

  file = f"output={tmp_path / 'a.safetensors'}"
  assert "holds whole transformers" in said(f"lora={workdir / 'whole'}", file)
  assert "give --family and --preset" in said("lora=a.safetensors", file)
  assert "a new .safetensors file" in said(
      f"lora={workdir / 'light'}", f"output={tmp_path}")
  assert "no dialect 'kohya'; have: diffusers, comfyui" in said(
      f"lora={workdir / 'light'}", file, "dialect=kohya")
  assert "no adapter of 'transformer_2'" in said(
      f"lora={workdir / 'light'}", file, "parts=transformer_2")
  assert "not both" in said("lora=a", "tuned=b", file)
  tuned, new = f"tuned={workdir / 'light'}", f"output={tmp_path / 'new'}"
  assert "is not empty" in said(tuned, f"output={workdir}")
  assert "no part 'tranformer'" in said(tuned, new, "parts=tranformer")


@pytest.mark.parametrize("item, error, message", [
    ("one.safetensors", errors.ConfigError, r"dict\(path=, weight=1.0\)"),
    (dict(path="one.safetensors", wieght=1.0), errors.ConfigError,
     "no 'wieght'.*Did you mean 'weight'"),
    (dict(path="one.safetensors", weight="much"), errors.ConfigError,
     "a finite number, not 'much'"),
    (dict(path="none.safetensors"), errors.DataError, "does not exist"),
])
def test_an_adapter_that_cannot_be_meant(data, tmp_path, item, error, message):
  if isinstance(item, dict):
    item = dict(item, path=str(data / item["path"]))
  with pytest.raises(error, match=message):
    pipeline.run(_road(data, item), tmp_path / "run")
  assert not (tmp_path / "run").exists()  # said before anything is begun


def test_an_adapter_of_another_size(data):
  spec = dict(MODEL, source=str(data / "base"))
  wide = models.build("world_models", dict(MODEL, kw=MODEL["kw"] | dict(
      transformer=dict(MODEL["kw"]["transformer"], width=96, heads=2))))
  file = str(data / "one.safetensors")
  with pytest.raises(errors.CheckpointError,
                     match=r"one\.safetensors does not fit Wan.*wrong shape"):
    world_model.changes(
        world_model.adapters_lib.parse([dict(path=file)]), "wan", wide.config,
        {})
  with pytest.raises(errors.ConfigError,
                     match="is for 'transformer_9'; the model has"):
    world_model.load_base(dict(spec, adapters=[
        dict(path=file, expert="transformer_9")]))
