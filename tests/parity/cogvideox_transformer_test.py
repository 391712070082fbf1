"""The CogVideoX transformers against diffusers' own."""

import dataclasses

import einops
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import errors, weights
from dreamgen_jax.layers import rope
from dreamgen_jax.world_models.cogvideox import dit
from dreamgen_jax.world_models.cogvideox import weights as names
from tests import golden_cases

CASES = golden_cases.cases("CogVideoXTransformer3DModel")


def config_of(kwargs):
  heads = kwargs["num_attention_heads"]
  space = kwargs["patch_size"]
  positions = None
  if kwargs["use_learned_positional_embeddings"]:
    frames = 1 + (kwargs["sample_frames"] - 1) // 4
    tokens = kwargs["sample_height"] * kwargs["sample_width"] // space**2
    positions = kwargs["max_text_seq_length"] + frames * tokens
  return dit.Config(
      width=heads * kwargs["attention_head_dim"], heads=heads,
      layers=kwargs["num_layers"], in_channels=kwargs["in_channels"],
      out_channels=kwargs["out_channels"],
      patch=(kwargs["patch_size_t"] or 1, space, space),
      text_dim=kwargs["text_embed_dim"],
      text_len=kwargs["max_text_seq_length"],
      time_dim=kwargs["time_embed_dim"], positions=positions,
      offset=bool(kwargs.get("ofs_embed_dim")))


def _last(x):
  return einops.rearrange(x, "b t c h w -> b t h w c")


def _case(golden, case):
  """(config, arguments in our layout, shapes of the parameters, files)."""
  kwargs, files = golden(case)
  c = config_of(kwargs["kwargs"])
  inputs = files["inputs"]
  arguments = (_last(inputs["hidden_states"]),
               inputs["timestep"].astype(np.float32),
               inputs["encoder_hidden_states"])
  target = jax.eval_shape(
      dit.Transformer(c).init, jax.random.key(0), *arguments)["params"]
  return c, arguments, target, files


@pytest.mark.parametrize("case", CASES)
def test_output_and_round_trip(golden, case):
  c, arguments, target, files = _case(golden, case)
  table = names.names(c.patch)
  params = weights.load(files["weights"], table, target)
  found = jax.jit(dit.Transformer(c).apply)({"params": params}, *arguments)
  np.testing.assert_allclose(
      found, _last(files["outputs"]["sample"]), atol=2e-5)
  released = weights.export(params, table)
  assert released.keys() == files["weights"].keys()
  for name, tensor in files["weights"].items():
    np.testing.assert_array_equal(released[name], tensor)


@pytest.mark.parametrize("case", CASES)
def test_rotary_positions(golden, case):
  c, (latent, *_), _, files = _case(golden, case)
  grid = [size // patch for size, patch
          in zip(latent.shape[1:4], c.patch, strict=True)]
  for i, found in enumerate(rope.grid(grid, c.rotary)):
    np.testing.assert_allclose(
        np.repeat(found, 2, axis=-1),
        files["inputs"][f"image_rotary_emb.{i}"], atol=2e-6)
  if c.offset:
    assert files["inputs"]["ofs"] == dit.OFFSET


@pytest.mark.parametrize("case", golden_cases.cases("cogvideox_i2v"))
def test_stored_positions_fix_the_size(golden, case):
  c, (latent, time, text), *_ = _case(golden, case)
  model = dit.Transformer(c)
  with pytest.raises(errors.DataError, match=f"positions for {c.positions}"):
    model.init(jax.random.key(0), latent[:, :-1], time, text)
  with pytest.raises(errors.DataError, match="2 rows; this model's text_len"):
    model.init(jax.random.key(0), latent, time, text[:, :2])
  with pytest.raises(errors.ConfigError, match="multiple of 16"):
    dataclasses.replace(c, width=24)


@pytest.mark.parametrize("case", golden_cases.cases("cogvideox15_i2v"))
def test_bfloat16_stays_close(golden, case):
  c, arguments, target, files = _case(golden, case)
  half = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(
      leaf.shape, jnp.bfloat16), target)
  params = weights.load(files["weights"], names.names(c.patch), half)
  c = dataclasses.replace(c, dtype="bfloat16")
  found = jax.jit(dit.Transformer(c).apply)({"params": params}, *arguments)
  assert found.dtype == jnp.float32
  error = np.abs(found - _last(files["outputs"]["sample"])).max()
  assert 0 < error < 0.15
