"""Adapter files in three dialects: one adapter, and diffusers' output."""

import json

import einops
import jax
import numpy as np
import pytest

from dreamgen_jax import errors, lora, lora_files, paths, weights
from dreamgen_jax.world_models.wan import dit
from dreamgen_jax.world_models.wan import lora_files as wan
from dreamgen_jax.world_models.wan import weights as names

HEADER = {"lora_adapter_metadata": json.dumps(
    {"transformer.r": 4, "transformer.lora_alpha": 8})}


def parse(tensors, metadata, params):
  return lora_files.parse(tensors, metadata, params, names.NAMES)


@pytest.fixture(scope="module")
def shapes():
  """Shapes of the transformer that the adapters are for."""
  config = dit.Config(
      width=48, heads=3, layers=2, ffn=96, in_channels=36, text_dim=32,
      text_len=512, freq_dim=32, image_dim=40)
  model = dit.Transformer(config)
  params = jax.eval_shape(
      model.init, jax.random.key(0), np.zeros((1, 3, 8, 6, 36), np.float32),
      np.zeros(1, np.float32), np.zeros((1, 512, 32), np.float32),
      np.zeros((1, 5, 40), np.float32))["params"]
  return model, params


def test_output_with_adapters(golden, shapes):
  _, files = golden("wan_lora")
  _, base = golden("wan_i2v")
  model, target = shapes
  params = weights.load(base["weights"], names.NAMES["diffusers"], target)
  adapters, config = parse(files["lora_diffusers"], HEADER, target)
  inputs, outputs = files["inputs"], files["outputs"]
  arguments = (
      einops.rearrange(inputs["hidden_states"], "b c t h w -> b t h w c"),
      inputs["timestep"].astype(np.float32),
      inputs["encoder_hidden_states"],
      inputs["encoder_hidden_states_image"],
  )

  def run(params):
    out = model.apply({"params": params}, *arguments)
    return einops.rearrange(out, "b t h w c -> b c t h w")

  intercepted = jax.jit(lora.adapted(run, config))(params, adapters)
  np.testing.assert_allclose(intercepted, outputs["with_lora"], atol=2e-5)
  merged = jax.jit(run)(lora.merge(params, adapters, config))
  np.testing.assert_allclose(merged, outputs["with_lora"], atol=2e-5)
  assert np.abs(outputs["with_lora"] - outputs["base"]).max() > 0.1


@pytest.mark.parametrize("dialect", wan.FORMATS.dialects)
def test_files_hold_the_same_adapters_both_ways(golden, shapes, dialect):
  _, files = golden("wan_lora")
  theirs = files[f"lora_{dialect}"]
  adapters, config = parse(
      theirs, HEADER if dialect == "diffusers" else {}, shapes[1])
  assert (config.rank, config.alpha) == (4, 8.0)
  reference, _ = parse(files["lora_diffusers"], HEADER, shapes[1])
  left, right = paths.flatten(adapters), paths.flatten(reference)
  assert left.keys() == right.keys()
  for path in left:
    np.testing.assert_array_equal(left[path], right[path])
  assert set(lora.targets(shapes[1], config)) == {
      path.rpartition("/")[0] for path in left}

  ours = lora_files.export(
      adapters, config, names.NAMES, dialect, "transformer")
  assert ours.keys() == theirs.keys()
  for name, tensor in theirs.items():
    np.testing.assert_array_equal(ours[name], tensor)


def test_strength_by_layer_goes_into_b(golden, shapes):
  _, files = golden("wan_lora")
  tensors = dict(files["lora_comfyui"])
  tensors["diffusion_model.blocks.1.ffn.0.alpha"] = np.float32(2)
  adapters, config = parse(tensors, {}, shapes[1])
  assert config.scale == 1.0
  before, _ = parse(files["lora_comfyui"], {}, shapes[1])
  ratio = (adapters["blocks"]["ffn_in"]["lora_b"]
           / before["blocks"]["ffn_in"]["lora_b"])
  np.testing.assert_allclose(ratio[0], 2.0)
  np.testing.assert_allclose(ratio[1], 0.5)


def test_nothing_is_skipped(golden, shapes):
  _, files = golden("wan_lora")
  tensors = dict(files["lora_comfyui"])
  tensors["diffusion_model.head.head.diff"] = np.zeros((64, 48), np.float32)
  with pytest.raises(errors.CheckpointError, match=r"head\.head\.diff"):
    parse(tensors, {}, shapes[1])
  del tensors["diffusion_model.head.head.diff"]
  del tensors["diffusion_model.blocks.1.ffn.0.lora_B.weight"]
  with pytest.raises(errors.CheckpointError, match=r"ffn_in/lora_b\[1\]"):
    parse(tensors, {}, shapes[1])
