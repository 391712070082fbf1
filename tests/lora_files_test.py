"""Adapter files of every family: there and back, and nothing left over."""

import dataclasses
import json

import jax
import ml_dtypes
import numpy as np
import pytest

from dreamgen_jax import (
    errors,
    lora,
    lora_files,
    paths,
    registry,
    safetensors,
    weights,
)
from dreamgen_jax.world_models.cosmos import weights as cosmos_weights
from tests import torch_archive

FAMILIES = registry.names("world_models")
# What the first layer's queries are called.
SHOWN = {
    ("wan", "diffusers"): "transformer.blocks.0.attn1.to_q.lora_A.weight",
    ("wan", "comfyui"): "diffusion_model.blocks.0.self_attn.q.lora_A.weight",
    ("wan", "musubi"): "lora_unet_blocks_0_self_attn_q.lora_down.weight",
    ("cosmos", "diffusers"):
        "transformer.transformer_blocks.0.attn1.to_q.lora_A.weight",
    ("cosmos", "original"):
        "net.blocks.0.self_attn.q_proj.lora_A.default.weight",
    ("cosmos", "comfyui"):
        "diffusion_model.blocks.0.self_attn.q_proj.lora_A.weight",
    ("cogvideox", "diffusers"):
        "transformer.transformer_blocks.0.attn1.to_q.lora_A.weight",
    ("hunyuan", "diffusers"):
        "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight",
}


def _formats(family):
  return registry.find(f"world_models.{family}", "lora_files").FORMATS


@pytest.fixture(scope="module")
def cases():
  """family -> (formats, config, shapes, adapters of all linear layers)."""
  found = {}
  for family in FAMILIES:
    formats = _formats(family)
    config = registry.find("world_models", family).PRESETS["nano"]
    shapes = jax.eval_shape(
        formats.family.model(config).init, jax.random.key(0))["transformer"]
    names = formats.family.parts(config)["transformer"].names["diffusers"]
    layers = [rule.path.removesuffix("/kernel").replace("{p}", ".*")
              for rule in names if rule.transform is weights.linear]
    flat = paths.flatten(shapes)
    there = [layer for layer in layers if any(
        path.endswith("/kernel") and lora.re.search(f"^{layer}/kernel$", path)
        for path in flat)]
    settings = lora.Config(3, 6.0, tuple(f"^{layer}$" for layer in there))
    rng = np.random.default_rng(0)
    adapters = jax.tree.map(
        lambda leaf, rng=rng: rng.normal(size=leaf.shape).astype(np.float32),
        jax.eval_shape(lambda params, settings=settings: lora.init(
            jax.random.key(0), params, settings), shapes))
    found[family] = formats, config, settings, adapters
  return found


def _assert_equal(left, right):
  left, right = paths.flatten(left), paths.flatten(right)
  assert left.keys() == right.keys()
  for path, leaf in left.items():
    assert leaf.dtype == right[path].dtype
    assert leaf.tobytes() == right[path].tobytes(), path


@pytest.mark.parametrize("family, dialect", [
    (family, dialect) for family in FAMILIES
    for dialect in _formats(family).dialects])
def test_there_and_back(cases, tmp_path, family, dialect):
  formats, config, settings, adapters = cases[family]
  path = tmp_path / "adapter.safetensors"
  size = formats.write(path, {"transformer": adapters}, settings, config,
                       dialect)
  assert size >= sum(leaf.nbytes for leaf in jax.tree.leaves(adapters))
  tensors = safetensors.read(path)
  assert SHOWN[family, dialect] in tensors
  again, found = formats.read(path, config)["transformer"]
  if dialect == "original":  # which has no place for alpha
    assert (found.rank, found.alpha) == (3, 3.0)
    again = {path: leaf / 2 if path.endswith("lora_b") else leaf
             for path, leaf in paths.flatten(again).items()}
  else:
    assert (found.rank, found.alpha) == (3, 6.0)
  _assert_equal(again, adapters)

  # One name more, and one less, are told.
  spare = SHOWN[family, dialect].replace("attn", "ears", 1)
  safetensors.write(path, tensors | {spare: np.zeros((3, 4), np.float32)})
  with pytest.raises(errors.CheckpointError, match=r"adapter\.safetensors does "
                     r"not fit .*tensors without a place: \S*ears"):
    formats.read(path, config)
  less = dict(tensors)
  del less[SHOWN[family, dialect]]
  safetensors.write(path, less)
  with pytest.raises(errors.CheckpointError, match="q/lora_a.0."):
    formats.read(path, config)


def test_every_dialect_is_shown():
  assert {(family, dialect) for family in FAMILIES
          for dialect in _formats(family).dialects} == SHOWN.keys()


def test_nvidias_file_holds_the_base_too(cases, tmp_path):
  formats, config, _, adapters = cases["cosmos"]
  own = weights.export(jax.tree.map(
      lambda leaf: np.zeros(leaf.shape, ml_dtypes.bfloat16), jax.eval_shape(
          formats.family.model(config).init,
          jax.random.key(0))["transformer"]), cosmos_weights.NAMES["original"])
  low = lora_files.export(
      adapters, lora.Config(3, 3.0, ""), cosmos_weights.NAMES, "original",
      "transformer")
  adapted = {name.partition(".lora_")[0] for name in low}
  whole = {}
  for name, tensor in own.items():
    layer = name.removesuffix(".weight")
    whole[f"{layer}.base_layer.weight" if layer in adapted else name] = tensor
  assert len(whole) > len(adapted)
  whole |= {name: np.ascontiguousarray(tensor) for name, tensor in low.items()}
  whole |= {f"net_ema.{name.removeprefix('net.')}": tensor
            for name, tensor in whole.items()}
  whole["net.accum_video_sample_counter"] = np.zeros((), np.float32)
  torch_archive.save(tmp_path / "iter_000000500.pt", whole)
  found = formats.read(tmp_path / "iter_000000500.pt", config)
  _assert_equal(found["transformer"][0], adapters)
  whole["net.spare.weight"] = np.zeros((2, 2), np.float32)
  torch_archive.save(tmp_path / "iter_000000500.pt", whole)
  with pytest.raises(errors.CheckpointError, match=r"spare\.weight"):
    formats.read(tmp_path / "iter_000000500.pt", config)


def test_a_folder_that_peft_wrote(cases, tmp_path):
  formats, config, settings, adapters = cases["cogvideox"]
  path = tmp_path / "adapter_model.safetensors"
  formats.write(path, {"transformer": adapters}, settings, config)
  safetensors.write(path, {
      name.replace("transformer.", "base_model.model.", 1): tensor
      for name, tensor in safetensors.read(path).items()})
  for facts, alpha in (({"r": 3, "lora_alpha": 12}, 12.0),
                       ({"r": 4, "lora_alpha": 2, "use_rslora": True}, 3.0)):
    (tmp_path / "adapter_config.json").write_text(json.dumps(facts))
    for place in (tmp_path, path):
      again, found = formats.read(place, config)["transformer"]
      assert found.alpha == alpha
      _assert_equal(again, adapters)


def test_two_transformers_in_one_file(cases, tmp_path):
  formats, config, settings, adapters = cases["wan"]
  both = dataclasses.replace(config, boundary=0.9)
  other = jax.tree.map(lambda leaf: -leaf, adapters)
  path = tmp_path / "adapter.safetensors"
  formats.write(path, {"transformer": adapters, "transformer_2": other},
                settings, both)
  found = formats.read(path, both)
  _assert_equal(found["transformer"][0], adapters)
  _assert_equal(found["transformer_2"][0], other)
  with pytest.raises(errors.ConfigError, match="is for 'transformer_2'; the "
                     "model has transformer"):
    formats.read(path, config)
  with pytest.raises(errors.ConfigError, match="comfyui holds adapters of one"):
    formats.write(path, {"transformer": adapters, "transformer_2": other},
                  settings, both, "comfyui")
  formats.write(path, {"transformer": adapters}, settings, both, "comfyui")
  with pytest.raises(errors.ConfigError, match="does not say which it is for"):
    formats.read(path, both)
  found = formats.read(path, both, "transformer_2")
  _assert_equal(found.pop("transformer_2")[0], adapters)
  assert not found


def test_adapters_of_another_model(cases, tmp_path):
  formats, config, settings, adapters = cases["wan"]
  path = tmp_path / "adapter.safetensors"
  formats.write(path, {"transformer": adapters}, settings, config)
  with pytest.raises(errors.CheckpointError,
                     match="does not fit HunyuanVideo of this preset"):
    cases["hunyuan"][0].read(path, cases["hunyuan"][1])
  wide = dataclasses.replace(config, transformer=dataclasses.replace(
      config.transformer, width=96))
  with pytest.raises(errors.CheckpointError, match="of wrong shape: "):
    formats.read(path, wide)
  with pytest.raises(errors.ConfigError, match="no dialect 'kohya'; have: "):
    formats.write(path, {"transformer": adapters}, settings, config, "kohya")
