"""Diffusion Policy against tensors of the original implementations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import ema, weights
from dreamgen_jax.policies.diffusion_policy import (
    transformer,
    unet,
    vision,
)
from dreamgen_jax.policies.diffusion_policy import weights as names
from tests import golden_cases


def parts(files, prefix):
  (tensors,) = files.values()
  return {
      name.removeprefix(prefix): array for name, array in tensors.items()
      if name.startswith(prefix)
  }


@pytest.mark.parametrize(
    "case", ["dp_unet_gc", "dp_unet_bias", "dp_unet_local"])
def test_unet_computes_what_the_original_does(golden, case):
  config, files = golden(case)
  kw = config["kwargs"]
  net = unet.ConditionalUnet1D(
      action_dim=kw["input_dim"], widths=kw["down_dims"],
      step_width=kw["diffusion_step_embed_dim"], kernel=kw["kernel_size"],
      groups=kw["n_groups"], predict_scale=kw["cond_predict_scale"])
  given, expected = parts(files, "in/"), parts(files, "out/")
  inputs = (given["sample"], given["timestep"].astype(np.int32),
            given.get("global_cond"), given.get("local_cond"))
  target = jax.eval_shape(net.init, jax.random.key(0), *inputs)["params"]
  released = parts(files, "w/")
  table = names.unet("", "")
  params = weights.load(released, table, target)
  with jax.default_matmul_precision("highest"):
    output = jax.jit(net.apply)({"params": params}, *inputs)
  np.testing.assert_allclose(output, expected["sample"], atol=1e-5)

  exported = weights.export(params, table)
  assert exported.keys() == released.keys()
  for name, array in released.items():
    np.testing.assert_array_equal(exported[name], array)


def test_step_embedding(golden):
  _, files = golden("dp_unet_gc")
  given, expected = parts(files, "in/"), parts(files, "out/")
  released = parts(files, "w/")
  x = unet.step_embedding(jnp.asarray(given["timestep"], jnp.int32), 32)
  first, second = "diffusion_step_encoder.1.", "diffusion_step_encoder.3."
  x = x @ released[first + "weight"].T + released[first + "bias"]
  x = jax.nn.mish(x) @ released[second + "weight"].T
  np.testing.assert_allclose(
      x + released[second + "bias"], expected["time_embed"], atol=1e-5)


def test_spatial_softmax(golden):
  config, files = golden("dp_spatial_softmax")
  net = vision.SpatialSoftmax(config["kwargs"]["num_kp"])
  features = parts(files, "in/")["features"].transpose(0, 2, 3, 1)
  target = jax.eval_shape(net.init, jax.random.key(0), features)["params"]
  released = parts(files, "w/")
  del released["pos_grid"]
  params = weights.load(released, names.softmax("", ""), target)
  keypoints = net.apply({"params": params}, features)
  expected = parts(files, "out/")["keypoints"]
  np.testing.assert_allclose(keypoints, expected, atol=1e-5)


def test_ema_decay(golden):
  _, files = golden("rollout")
  steps = parts(files, "in/")["ema_steps"]
  expected = parts(files, "out/")["ema_decay"]
  np.testing.assert_allclose(ema.decay(steps), expected, atol=1e-6)


@pytest.mark.parametrize("case", golden_cases.cases("dp_transformer"))
def test_transformer_computes_what_the_original_does(golden, case):
  config, files = golden(case)
  kw = config["kwargs"]
  net = transformer.Transformer(kw["output_dim"], transformer.Config(
      width=kw["n_emb"], depth=kw["n_layer"], heads=kw["n_head"],
      memory_depth=kw["n_cond_layers"], causal=kw["causal_attn"]))
  given = parts(files, "in/")
  inputs = (given["sample"], given["timestep"].astype(np.int32),
            given.get("cond"))
  target = jax.eval_shape(net.init, jax.random.key(0), *inputs)["params"]
  released = parts(files, "w/")
  table = names.transformer("", "", plain=not kw["time_as_cond"])
  params = weights.load(released, table, target)
  with jax.default_matmul_precision("highest"):
    output = jax.jit(net.apply)({"params": params}, *inputs)
  expected = parts(files, "out/")["sample"]
  np.testing.assert_allclose(output, expected, atol=1e-5)

  exported = weights.export(params, table)
  buffers = {"mask", "memory_mask", "_dummy_variable"}
  assert exported.keys() == released.keys() - buffers
  for name, array in exported.items():
    np.testing.assert_array_equal(array, released[name])
