"""The Cosmos-Predict2 transformer against diffusers' own."""

import dataclasses
import functools

import einops
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import errors, paths, weights
from dreamgen_jax.world_models.cosmos import dit
from dreamgen_jax.world_models.cosmos import weights as names
from tests import golden_cases

DIFFUSERS, ORIGINAL = names.NAMES["diffusers"], names.NAMES["original"]


def config_of(kwargs, text_len, **changes):
  heads = kwargs["num_attention_heads"]
  width = heads * kwargs["attention_head_dim"]
  return dit.Config(
      width=width, heads=heads, layers=kwargs["num_layers"],
      ffn=int(width * kwargs["mlp_ratio"]),
      in_channels=kwargs["in_channels"] + 1,
      out_channels=kwargs["out_channels"], patch=tuple(kwargs["patch_size"]),
      text_dim=kwargs["text_embed_dim"], text_len=text_len,
      rank=kwargs["adaln_lora_dim"], stretch=tuple(kwargs["rope_scale"]),
      head_epsilon=1e-5,  # diffusers'; NVIDIA's code has 1e-6
      **changes)


def _last(x):
  return einops.rearrange(x, "b c t h w -> b t h w c")


def _arguments(inputs):
  """Inputs in the released layout to ours."""
  latent, mask = _last(inputs["hidden_states"]), _last(inputs["condition_mask"])
  rows = inputs["padding_mask"].shape[-2] // latent.shape[2]
  padding = inputs["padding_mask"][:, :, None, ::rows, ::rows]  # b 1 1 h w
  padding = np.broadcast_to(_last(padding), mask.shape)
  latent = np.concatenate([latent, mask, padding], -1)
  return latent, inputs["timestep"][:, 0, :, 0, 0], inputs[
      "encoder_hidden_states"]


def _target(config, arguments):
  model = dit.Transformer(config)
  return jax.eval_shape(model.init, jax.random.key(0), *arguments)["params"]


@functools.cache
def _compiled(config):
  return jax.jit(dit.Transformer(config).apply)


def _run(config, params, arguments):
  return _compiled(config)({"params": params}, *arguments)


def _close(ours, theirs, tolerance=2e-5):
  difference = np.abs(np.asarray(ours) - theirs).max()
  assert difference < tolerance, difference


@pytest.fixture(params=golden_cases.cases("CosmosTransformer3DModel"))
def case(golden, request):
  config, files = golden(request.param)
  arguments = _arguments(files["inputs"])
  c = config_of(config["kwargs"], arguments[2].shape[1],
                position_hz=config["non_tensor_inputs"]["fps"])
  params = weights.load(files["weights"], DIFFUSERS, _target(c, arguments))
  return c, params, arguments, files


@pytest.mark.parametrize("changes, expected", [
    ({"position_hz": None}, "sample_fps_none"), ({}, "sample"),
    ({"position_hz": 24.0}, "sample_fps24")])
def test_output(case, changes, expected):
  c, params, arguments, files = case
  c = dataclasses.replace(c, **changes)
  _close(_run(c, params, arguments), _last(files["outputs"][expected]))


def test_one_time_for_all_frames(case):
  c, params, (latent, time, text), files = case
  arguments = latent, time[:, -1], text
  _close(_run(c, params, arguments), _last(files["outputs"]["sample_t1d"]))


def test_round_trip(case):
  c, params, arguments, files = case
  target = _target(c, arguments)
  for dialect, table in names.NAMES.items():
    released = weights.export(params, table)
    assert weights.choose(released, names.NAMES) == dialect
    again = weights.load(released, table, target)
    jax.tree.map(np.testing.assert_array_equal, again, params)
  released = weights.export(params, DIFFUSERS)
  assert released.keys() == files["weights"].keys()
  for name, tensor in files["weights"].items():
    np.testing.assert_array_equal(released[name], tensor)


def test_original_names(case):
  c, params, arguments, files = case
  original = weights.export(params, ORIGINAL)
  block, theirs = "net.blocks.1", "transformer_blocks.1"
  for name, diffusers in {
      "net.x_embedder.proj.1.weight": "patch_embed.proj.weight",
      "net.t_embedder.1.linear_2.weight":
          "time_embed.t_embedder.linear_2.weight",
      "net.t_embedding_norm.weight": "time_embed.norm.weight",
      f"{block}.adaln_modulation_cross_attn.2.weight":
          f"{theirs}.norm2.linear_2.weight",
      f"{block}.adaln_modulation_mlp.1.weight":
          f"{theirs}.norm3.linear_1.weight",
      f"{block}.self_attn.output_proj.weight":
          f"{theirs}.attn1.to_out.0.weight",
      f"{block}.cross_attn.k_norm.weight": f"{theirs}.attn2.norm_k.weight",
      f"{block}.mlp.layer2.weight": f"{theirs}.ff.net.2.weight",
      "net.final_layer.adaln_modulation.2.weight": "norm_out.linear_2.weight",
      "net.final_layer.linear.weight": "proj_out.weight",
  }.items():
    np.testing.assert_array_equal(original[name], files["weights"][diffusers])

  # What a released .pt holds besides; nothing else may be left over.
  buffer = np.zeros(1, np.float32)
  extra = {name: buffer for name in (
      "net.pos_embedder.seq", "net.pos_embedder.dim_spatial_range",
      "net.pos_embedder.dim_temporal_range", "net.accum_iteration",
      "net.accum_train_in_hours", f"{block}.self_attn.q_norm._extra_state")}
  again = weights.load(original | extra, ORIGINAL, _target(c, arguments))
  jax.tree.map(np.testing.assert_array_equal, again, params)
  with pytest.raises(errors.CheckpointError, match="net.extra.weight"):
    weights.load(original | {"net.extra.weight": buffer}, ORIGINAL,
                 _target(c, arguments))


@pytest.mark.parametrize("preset, billions", [("2b", 1.956), ("14b", 14.265)])
def test_full_size(preset, billions):
  c = dit.PRESETS[preset]
  shape = jax.ShapeDtypeStruct
  params = _target(c, (
      shape((1, 2, 4, 4, c.in_channels), jnp.float32),
      shape((1, 2), jnp.float32),
      shape((1, c.text_len, c.text_dim), jnp.float32)))
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert round(count / 1e9, 3) == billions
  stand_ins = {path: np.broadcast_to(np.float32(0), leaf.shape)
               for path, leaf in paths.flatten(params).items()}
  for table in names.NAMES.values():
    released = weights.export(paths.unflatten(stand_ins), table)
    assert sum(tensor.size for tensor in released.values()) == count


def test_bfloat16_stays_close(case):
  c, params, arguments, _ = case
  exact = _run(c, params, arguments)
  half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  found = _run(dataclasses.replace(c, dtype="bfloat16"), half, arguments)
  assert found.dtype == jnp.float32
  assert 0 < np.abs(found - exact).max() < 0.3  # values reach 7.7


def test_misfits_are_errors(case):
  c, _, (latent, time, text), _ = case
  with pytest.raises(errors.DataError, match="2 rows; this model's text_len"):
    dit.Transformer(c).init(jax.random.key(0), latent, time, text[:, :2])
  with pytest.raises(errors.ConfigError, match="8 heads"):
    dataclasses.replace(c, heads=8)
