"""Wan's autoencoders in chunks and over a mesh; names in both dialects."""

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from dreamgen_jax import errors, paths, weights
from dreamgen_jax.world_models.wan import vae, vae_residual, vae_weights

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIGS = {
    "plain": vae.VaeConfig(
        base_dim=4, z_dim=2, dim_mult=(1, 1, 1), num_res_blocks=0,
        temporal_downsample=(True, True),
        latents_mean=(0.0,) * 2, latents_std=(1.0,) * 2),
    "residual": vae.VaeConfig(
        base_dim=4, decoder_base_dim=8, z_dim=2, dim_mult=(1, 1, 1),
        num_res_blocks=0, temporal_downsample=(True, True), patch=2,
        residual=True, latents_mean=(0.0,) * 2, latents_std=(1.0,) * 2),
}
QUICK = {"xla_backend_optimization_level": 0,
         "xla_llvm_disable_expensive_passes": True}


@functools.cache
def _case(name):
  """Config, parameters of which none is zero, and a video."""
  config = CONFIGS[name]
  random = np.random.default_rng(0)
  shapes = jax.eval_shape(lambda key: vae.init(config, key), jax.random.key(0))
  params = jax.tree.map(lambda leaf: random.normal(
      size=leaf.shape, scale=leaf.size ** -0.3).astype(np.float32), shapes)
  size = config.space_factor
  video = random.uniform(-1, 1, (2, 17, size, 8 * size, 3)).astype(np.float32)
  return config, params, video


def _jit(function):
  return jax.jit(function, static_argnums=0, compiler_options=QUICK)


@functools.cache
def _whole(name):
  config, params, video = _case(name)
  moments = _jit(vae.encode)(config, params, video)
  z = vae.mode(moments)
  again = _jit(vae.reconstruct)(config, params, z)
  assert min(np.std(moments), np.std(again)) > 0.1
  return np.asarray(moments), np.asarray(z), np.asarray(again)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("frames, chunk", [(9, 1), (5, 2), (1, 1)])
def test_chunks_give_what_the_whole_clip_gives(name, frames, chunk):
  config, params, video = _case(name)
  moments, z, again = _whole(name)
  latents = 1 + (frames - 1) // 4
  config = dataclasses.replace(config, chunk=chunk)
  found = _jit(vae.encode)(config, params, video[:, :frames])
  # What comes later changes nothing, so that one clip serves all lengths.
  np.testing.assert_allclose(found, moments[:, :latents], atol=1e-5)
  found = _jit(vae.reconstruct)(config, params, z[:, :latents])
  np.testing.assert_allclose(found, again[:, :frames], atol=1e-5)


def test_a_chunk_is_at_least_a_frame():
  with pytest.raises(errors.ConfigError, match="chunk is 0"):
    dataclasses.replace(CONFIGS["plain"], chunk=0)


# Runs 17 frames in chunks over a mesh; prints how far it is from the whole.
PROGRAM = """
import dataclasses, functools, json, sys
import jax, numpy as np
from dreamgen_jax import sharding
from dreamgen_jax.world_models.wan import vae
from tests.world_models import wan_vae_test

assert jax.device_count() == 8
mesh = sharding.mesh({"data": 2, "context": 4})
for name in wan_vae_test.CONFIGS:
  config, params, video = wan_vae_test._case(name)
  config = dataclasses.replace(config, chunk=3)
  whole = np.load(f"{sys.argv[1]}/{name}.npz")
  for function, x, wanted in [(vae.encode, video, whole["moments"]),
                              (vae.reconstruct, whole["z"], whole["again"])]:
    with jax.set_mesh(mesh):
      step = wan_vae_test._jit(function).lower(config, params, x).compile()
      found = step(params, x)
    print(json.dumps(dict(
        apart=float(np.abs(np.asarray(found) - wanted).max()),
        shape=found.shape, shard=found.addressable_shards[0].data.shape,
        halos=step.as_text().count("collective-permute("))))
"""


def test_width_over_a_mesh_changes_nothing(tmp_path):
  for name in CONFIGS:
    moments, z, again = _whole(name)
    np.savez(tmp_path / f"{name}.npz", moments=moments, z=z, again=again)
  done = subprocess.run(
      [sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT,
      capture_output=True, text=True, env=os.environ | {
          "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
          "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)})
  assert not done.returncode, done.stderr[-3000:]
  rows = [json.loads(line) for line in done.stdout.splitlines()]
  assert len(rows) == 4
  for row in rows:
    assert row["apart"] < 1e-5, row
    b, f, h, w, c = row["shape"]
    assert row["shard"] == [b // 2, f, h, w // 4, c]
    assert row["halos"], "no neighbour was asked for its border"


@pytest.mark.parametrize("space, time", [(1, 1), (2, 1), (2, 2)])
def test_ways_around_a_level_keep_the_mean(space, time):
  x = np.random.default_rng(0).normal(size=(1, 4, 4, 4, 8)).astype(np.float32)
  less = vae_residual.average(x, 4, time, space)
  assert less.shape == (1, 4 // time, 4 // space, 4 // space, 4)
  np.testing.assert_allclose(less.mean(), x.mean(), atol=1e-6)
  back = vae_residual.spread(less, 8, time, space, starts=False)
  assert back.shape == x.shape
  # Each average, spread over what it was of, is averaged to itself.
  np.testing.assert_allclose(
      vae_residual.average(back, 4, time, space), less, atol=1e-6)
  start = vae_residual.spread(less, 8, time, space, starts=True)
  np.testing.assert_array_equal(start, back[:, time - 1 :])
  with pytest.raises(errors.ConfigError, match="so that they divide"):
    vae_residual.average(x, 5, time, space)


PAIRS = {
    "released": [
        ("encoder.middle.0.residual.6.weight",
         "encoder.mid_block.resnets.0.conv2.weight"),
        ("encoder.downsamples.3.shortcut.bias",
         "encoder.down_blocks.3.conv_shortcut.bias"),
        ("encoder.downsamples.5.time_conv.weight",
         "encoder.down_blocks.5.time_conv.weight"),
        ("decoder.upsamples.4.residual.0.gamma",
         "decoder.up_blocks.1.resnets.0.norm1.gamma"),
        ("decoder.upsamples.7.resample.1.weight",
         "decoder.up_blocks.1.upsamplers.0.resample.1.weight"),
        ("decoder.upsamples.14.residual.2.bias",
         "decoder.up_blocks.3.resnets.2.conv1.bias"),
        ("conv1.weight", "quant_conv.weight"),
        ("decoder.conv1.weight", "decoder.conv_in.weight"),
        ("decoder.head.0.gamma", "decoder.norm_out.gamma"),
    ],
    "released_2_2": [
        ("encoder.downsamples.1.downsamples.0.residual.3.gamma",
         "encoder.down_blocks.1.resnets.0.norm2.gamma"),
        ("encoder.downsamples.2.downsamples.2.time_conv.bias",
         "encoder.down_blocks.2.downsampler.time_conv.bias"),
        ("decoder.upsamples.3.upsamples.2.residual.6.weight",
         "decoder.up_blocks.3.resnets.2.conv2.weight"),
        ("decoder.upsamples.0.upsamples.3.resample.1.weight",
         "decoder.up_blocks.0.upsampler.resample.1.weight"),
        ("conv2.bias", "post_quant_conv.bias"),
        ("encoder.middle.1.to_qkv.weight",
         "encoder.mid_block.attentions.0.to_qkv.weight"),
    ],
}


@pytest.mark.parametrize("name", PAIRS)
def test_both_dialects_name_the_same_tensors(name):
  config = dataclasses.replace(vae.PRESETS[name], base_dim=4,
                               decoder_base_dim=4, z_dim=2)
  shapes = jax.eval_shape(lambda key: vae.init(config, key), jax.random.key(0))
  flat = paths.flatten(shapes)
  params = paths.unflatten({
      path: np.full(leaf.shape, i, np.float32)
      for i, (path, leaf) in enumerate(flat.items())})
  files = {}
  for dialect in vae_weights.DIALECTS:
    table = vae_weights.names(dialect, config)
    files[dialect] = weights.export(params, table)
    assert len(files[dialect]) == len(flat)
    jax.tree.map(np.testing.assert_array_equal,
                 weights.load(files[dialect], table, shapes), params)
  for original, diffusers in PAIRS[name]:
    np.testing.assert_array_equal(
        files["original"][original], files["diffusers"][diffusers])
