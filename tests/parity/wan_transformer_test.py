"""The Wan transformer against diffusers' own: outputs, loss, gradients."""

import dataclasses
import functools

import einops
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import errors, paths, weights
from dreamgen_jax.world_models.wan import dit
from dreamgen_jax.world_models.wan import weights as names
from tests import golden_cases

DIFFUSERS = names.NAMES["diffusers"]


def _config(kwargs, text_len, **changes):
  heads = kwargs["num_attention_heads"]
  return dit.Config(
      width=heads * kwargs["attention_head_dim"], heads=heads,
      layers=kwargs["num_layers"], ffn=kwargs["ffn_dim"],
      in_channels=kwargs["in_channels"], out_channels=kwargs["out_channels"],
      patch=tuple(kwargs["patch_size"]), text_dim=kwargs["text_dim"],
      text_len=text_len, freq_dim=kwargs["freq_dim"],
      image_dim=kwargs.get("image_dim"),
      image_positions=kwargs.get("pos_embed_seq_len"), epsilon=kwargs["eps"],
      **changes)


def _last(x):
  return einops.rearrange(x, "b c t h w -> b t h w c")


def _arguments(inputs):
  """Inputs in the released layout to ours."""
  latent = _last(inputs["hidden_states"])
  time = inputs["timestep"].astype(np.float32)
  image = inputs.get("encoder_hidden_states_image")
  if image is not None:
    image = image.reshape(len(latent), -1, image.shape[-1])
  return latent, time, inputs["encoder_hidden_states"], image


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


@pytest.mark.parametrize(
    "case", golden_cases.cases("WanTransformer3DModel"))
def test_output_and_round_trip(golden, case):
  config, files = golden(case)
  arguments = _arguments(files["inputs"])
  c = _config(config["kwargs"], arguments[2].shape[1])
  params = weights.load(files["weights"], DIFFUSERS, _target(c, arguments))
  _close(_run(c, params, arguments), _last(files["outputs"]["sample"]))

  for table in names.NAMES.values():
    released = weights.export(params, table)
    assert weights.choose(released, names.NAMES) == (
        "diffusers" if table is DIFFUSERS else "original")
    again = weights.load(released, table, _target(c, arguments))
    jax.tree.map(np.testing.assert_array_equal, again, params)
  released = weights.export(params, DIFFUSERS)
  assert released.keys() == files["weights"].keys()
  for name, tensor in files["weights"].items():
    np.testing.assert_array_equal(released[name], tensor)


@pytest.mark.parametrize("case", golden_cases.cases("wan_flf2v"))
def test_original_names(golden, case):
  """Spot checks of the renames, of which norm2 and norm3 trade places."""
  config, files = golden(case)
  arguments = _arguments(files["inputs"])
  c = _config(config["kwargs"], arguments[2].shape[1])
  params = weights.load(files["weights"], DIFFUSERS, _target(c, arguments))
  original = weights.export(params, names.NAMES["original"])
  for theirs, ours in {
      "blocks.1.norm3.weight": "blocks.1.norm2.weight",
      "blocks.0.cross_attn.k_img.weight": "blocks.0.attn2.add_k_proj.weight",
      "blocks.1.ffn.0.bias": "blocks.1.ffn.net.0.proj.bias",
      "head.modulation": "scale_shift_table",
      "img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed",
      "time_projection.1.weight": "condition_embedder.time_proj.weight",
  }.items():
    np.testing.assert_array_equal(original[theirs], files["weights"][ours])


@pytest.mark.parametrize("case", golden_cases.cases("wan22_ti2v"))
def test_time_per_frame_is_time_per_token(golden, case):
  config, files = golden(case)
  latent, time, text, _ = _arguments(files["inputs"])
  c = _config(config["kwargs"], text.shape[1])
  frames = time.reshape(len(time), latent.shape[1], -1)[..., 0]
  assert len(np.unique(frames)) == 2
  arguments = latent, frames, text
  params = weights.load(files["weights"], DIFFUSERS, _target(c, arguments))
  _close(_run(c, params, arguments), _last(files["outputs"]["sample"]))


def test_adapter_merged_into_the_weights(golden):
  config, files = golden("wan_lora")
  _, base = golden("wan_i2v")
  arguments = _arguments(files["inputs"])
  c = _config(config["kwargs"], arguments[2].shape[1])
  target = _target(c, arguments)
  scale = config["lora"]["alpha"] / config["lora"]["rank"]
  merged = dict(base["weights"])
  for name, down in files["lora_diffusers"].items():
    if name.endswith(".lora_A.weight"):
      up = files["lora_diffusers"][name.replace("lora_A", "lora_B")]
      key = name.removeprefix("transformer.").replace(".lora_A", "")
      merged[key] = merged[key] + scale * up @ down
  for tensors, expected in ((base["weights"], "base"), (merged, "with_lora")):
    params = weights.load(tensors, DIFFUSERS, target)
    _close(_run(c, params, arguments), _last(files["outputs"][expected]))


def test_loss_and_gradients(golden):
  config, files = golden("wan_train_step")
  _, base = golden("wan_i2v")
  inputs, outputs = files["inputs"], files["outputs"]
  shift = config["shift"]
  sigma = shift * inputs["u"] / (1 + (shift - 1) * inputs["u"])
  _close(sigma, outputs["sigma"], 1e-6)
  clean, noise = _last(inputs["x0"]), _last(inputs["eps"])
  s = sigma[:, None, None, None, None]
  latent = np.concatenate(
      [(1 - s) * clean + s * noise, _last(inputs["cond"])], -1)
  arguments = latent, 1000 * sigma, inputs["context"], inputs["image_embeds"]
  c = _config(config["kwargs"], arguments[2].shape[1])
  params = weights.load(base["weights"], DIFFUSERS, _target(c, arguments))

  @jax.jit
  @jax.value_and_grad
  def loss(params):
    velocity = dit.Transformer(c).apply({"params": params}, *arguments)
    return jnp.mean((velocity - (noise - clean)) ** 2)

  value, gradients = loss(params)
  _close(value, outputs["loss"][0])
  released = weights.export(gradients, DIFFUSERS)
  checked = [key for key in outputs if key.startswith("grad/")]
  assert len(checked) == 9
  for key in checked:
    _close(released[key.removeprefix("grad/")], outputs[key])


@pytest.mark.parametrize("preset, billions", [
    ("t2v_1b3", 1.419), ("t2v_14b", 14.288), ("i2v_14b", 16.395),
    ("i2v_a14b", 14.289), ("ti2v_5b", 5.000)])
def test_full_size(preset, billions):
  c = dit.PRESETS[preset]
  shape = jax.ShapeDtypeStruct
  image = c.image_dim and shape((1, 257, c.image_dim), jnp.float32)
  params = _target(c, (
      shape((1, 1, 2, 2, c.in_channels), jnp.float32),
      shape((1,), jnp.float32),
      shape((1, c.text_len, c.text_dim), jnp.float32), image))
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert round(count / 1e9, 3) == billions
  # every parameter has a released name
  stand_ins = {path: np.broadcast_to(np.float32(0), leaf.shape)
               for path, leaf in paths.flatten(params).items()}
  for table in names.NAMES.values():
    released = weights.export(paths.unflatten(stand_ins), table)
    assert sum(tensor.size for tensor in released.values()) == count


@functools.cache
def _small():
  c = dit.Config(width=24, heads=2, layers=2, ffn=32, in_channels=5,
                 out_channels=4, text_dim=6, text_len=3, freq_dim=8)
  arguments = (jnp.ones((2, 2, 4, 4, 5)), jnp.array([0.0, 500.0]),
               jnp.ones((2, 3, 6)))
  params = jax.jit(dit.Transformer(c).init)(jax.random.key(0), *arguments)
  return c, arguments, params["params"]


def test_fresh_parameters_predict_zero_and_learn():
  c, arguments, params = _small()
  assert not np.any(_run(c, params, arguments))
  kernel = params["blocks"]["ffn_in"]["kernel"]
  assert np.any(kernel[0] != kernel[1])
  gradient = jax.jit(jax.grad(lambda head: jnp.mean((_run(
      c, params | {"head": head}, arguments) - 1) ** 2)))(params["head"])
  assert np.any(gradient["kernel"])


def test_bfloat16_stays_close():
  c, arguments, params = _small()
  head = params["head"]
  noise = jax.random.normal(jax.random.key(1), head["kernel"].shape)
  params = params | {"head": head | {"kernel": 0.2 * noise}}
  exact = _run(c, params, arguments)
  half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
  found = _run(dataclasses.replace(c, dtype="bfloat16"), half, arguments)
  assert found.dtype == jnp.float32
  assert 0 < np.abs(found - exact).max() < 0.05


def test_misfits_are_errors():
  c, (latent, time, text), _ = _small()
  model = dit.Transformer(c)
  with pytest.raises(errors.DataError, match="2 rows; this model's text_len"):
    model.init(jax.random.key(0), latent, time, text[:, :2])
  with pytest.raises(errors.DataError, match="given an image"):
    model.init(jax.random.key(0), latent, time, text, text)
  with pytest.raises(errors.ConfigError, match="5 heads"):
    dataclasses.replace(c, heads=5)
  with pytest.raises(errors.ConfigError, match="remat is 'some'"):
    dit.Transformer(dataclasses.replace(c, remat="some")).init(
        jax.random.key(0), latent, time, text)
