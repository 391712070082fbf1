"""The HunyuanVideo transformer against diffusers' own."""

import functools

import jax
import numpy as np
import pytest
from einops import rearrange

from dreamgen_jax import errors, weights
from dreamgen_jax.world_models.hunyuan import dit
from dreamgen_jax.world_models.hunyuan import weights as names
from tests import golden_cases

DIFFUSERS = names.NAMES["diffusers"]


def config_of(kwargs):
  heads = kwargs["num_attention_heads"]
  width = heads * kwargs["attention_head_dim"]
  return dit.Config(
      width=width, heads=heads, ffn=int(kwargs["mlp_ratio"] * width),
      dual_layers=kwargs["num_layers"],
      single_layers=kwargs["num_single_layers"],
      refiner_layers=kwargs["num_refiner_layers"],
      in_channels=kwargs["in_channels"], out_channels=kwargs["out_channels"],
      patch=(kwargs["patch_size_t"], *[kwargs["patch_size"]] * 2),
      text_dim=kwargs["text_embed_dim"],
      pooled_dim=kwargs["pooled_projection_dim"],
      rotary=tuple(kwargs["rope_axes_dim"]), theta=kwargs["rope_theta"],
      guidance=kwargs["guidance_embeds"],
      image=kwargs["image_condition_type"])


def _last(x):
  return rearrange(x, "b c t h w -> b t h w c")


def _arguments(inputs):
  return (_last(inputs["hidden_states"]), inputs["timestep"],
          inputs["encoder_hidden_states"],
          inputs["encoder_attention_mask"].astype(bool),
          inputs["pooled_projections"], inputs.get("guidance"))


def _shapes(config, arguments):
  return jax.eval_shape(dit.Transformer(config).init, jax.random.key(0),
                        *arguments)["params"]


@functools.cache
def _compiled(config):
  return jax.jit(dit.Transformer(config).apply)


@pytest.fixture(
    params=golden_cases.cases("HunyuanVideoTransformer3DModel"))
def case(golden, request):
  config, files = golden(request.param)
  c, arguments = config_of(config["kwargs"]), _arguments(files["inputs"])
  shapes = _shapes(c, arguments)
  params = weights.load(files["weights"], DIFFUSERS, shapes)
  # A guidance scale is embedded as up to 6000, of which float32 knows 4 digits
  # behind the point; that is what the released network computes with, too.
  return c, arguments, shapes, params, files, 2e-4 if c.guidance else 2e-5


def test_output(case):
  c, arguments, _, params, files, tolerance = case
  out = _compiled(c)({"params": params}, *arguments)
  np.testing.assert_allclose(
      out, _last(files["outputs"]["sample"]), atol=tolerance, rtol=0)


def test_names(case):
  c, _, shapes, params, files, _ = case
  released = weights.export(params, DIFFUSERS)
  assert released.keys() == files["weights"].keys()
  for name, tensor in files["weights"].items():
    np.testing.assert_array_equal(released[name], tensor)

  table = names.names("original", c.patch, c.ffn // c.width)
  original = weights.export(params, table)
  again = weights.load(original, table, shapes)
  jax.tree.map(np.testing.assert_array_equal, again, params)
  # What Tencent's files fuse, turn or call otherwise.
  theirs = files["weights"]
  for name, parts in {
      "single_blocks.1.linear1.weight": [
          *[f"single_transformer_blocks.1.attn.to_{p}.weight" for p in "qkv"],
          "single_transformer_blocks.1.proj_mlp.weight"],
      "double_blocks.0.txt_attn_qkv.bias": [
          f"transformer_blocks.0.attn.add_{p}_proj.bias" for p in "qkv"],
      "txt_in.individual_token_refiner.blocks.0.self_attn_qkv.weight": [
          f"context_embedder.token_refiner.refiner_blocks.0.attn.to_{p}.weight"
          for p in "qkv"],
      "vector_in.in_layer.weight": [
          "time_text_embed.text_embedder.linear_1.weight"],
      "txt_in.t_embedder.mlp.2.bias": [
          "context_embedder.time_text_embed.timestep_embedder.linear_2.bias"],
  }.items():
    np.testing.assert_array_equal(
        original[name], np.concatenate([theirs[part] for part in parts]))
  scale, shift = np.split(theirs["norm_out.linear.bias"], 2)
  np.testing.assert_array_equal(
      original["final_layer.adaLN_modulation.1.bias"],
      np.concatenate([shift, scale]))


@pytest.mark.parametrize("case", golden_cases.cases("hunyuan_i2v_concat"),
                         indirect=True)
def test_what_lies_behind_the_prompt_is_not_seen(case):
  c, arguments, _, params, *_ = case
  latent, time, text, mask, *rest = arguments
  assert not mask.all()
  noise = np.where(mask[..., None], text, 1e3).astype(np.float32)
  run = _compiled(c)
  before = run({"params": params}, *arguments)
  after = run({"params": params}, latent, time, noise, mask, *rest)
  np.testing.assert_allclose(after, before, atol=1e-5)


def test_configs_that_cannot_be():
  with pytest.raises(errors.ConfigError, match="2 heads of .4, 6, 6. dims"):
    dit.Config(width=48, heads=2, rotary=(4, 6, 6))
  with pytest.raises(errors.ConfigError, match="'first'; it can be"):
    dit.Config(image="first")
  net = dit.Transformer(dit.PRESETS["i2v_33ch"])
  with pytest.raises(errors.DataError, match="scale: False; it was given 6"):
    net.init(jax.random.key(0), *[np.zeros((1, 2, 2, 2, 33))] * 5, guidance=6.)
