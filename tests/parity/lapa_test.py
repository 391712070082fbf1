"""LAPA's latent action quantisation against the authors' own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from dreamgen_jax import errors, weights
from dreamgen_jax.labelers import lapa
from dreamgen_jax.labelers.lapa import net
from dreamgen_jax.labelers.lapa import weights as lapa_weights
from tests import torch_archive


@pytest.fixture(params=["laq", "laq16"])
def case(request, golden):
  config, files = golden(request.param)
  tensors, said = files[request.param], config["kwargs"]
  model = lapa.Model(lapa.Config(
      slots=said["code_seq_len"], codes=said["codebook_size"],
      code_width=said["quant_dim"], camera_size=said["image_size"],
      patch=said["patch_size"], width=said["dim"], heads=said["heads"],
      head_width=said["dim_head"], spatial_depth=said["spatial_depth"],
      temporal_depth=said["temporal_depth"]))
  released = {name.removeprefix("w/"): tensor
              for name, tensor in tensors.items() if name.startswith("w/")}
  target = jax.eval_shape(model.init, jax.random.key(0))
  params = weights.load(released, lapa_weights.names(), target)
  return model, params, tensors, released


def _frames(tensors):
  return rearrange(jnp.asarray(tensors["in/video"]), "b c f h w -> b f h w c")


def _close(ours, theirs):
  np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=1e-4)


def test_every_part_of_the_encoder(case):
  model, params, tensors, _ = case
  c, encoder = model.config, params["encoder"]

  @jax.jit
  def parts(params, encoder, frames, spatial):
    bias = net.PositionBias(c).apply({"params": params["positions"]})
    patches = net.Patches(c).apply({"params": encoder["patches"]}, frames)
    return (patches, net.Transformer(c, c.spatial_depth).apply(
        {"params": encoder["spatial"]}, patches, bias),
            net.Transformer(c, c.temporal_depth, temporal=True).apply(
                {"params": encoder["temporal"]}, spatial))

  patches, spatial, temporal = parts(
      params, encoder, _frames(tensors), rearrange(
          tensors["out/enc_spatial"], "(b f) (h w) d -> b f h w d", f=2,
          h=c.grid))
  _close(patches[:, :1], tensors["out/patch_emb"])
  _close(rearrange(spatial, "b f h w d -> (b f) (h w) d"),
         tensors["out/enc_spatial"])
  _close(rearrange(temporal, "b f h w d -> (b h w) f d"),
         tensors["out/enc_temporal"])
  _close(rearrange(temporal, "b f h w d -> f b (h w) d"), np.stack([
      tensors["out/vq_first_tokens"], tensors["out/vq_last_tokens"]]))


def test_codes_and_the_predicted_frame(case):
  model, params, tensors, _ = case

  @jax.jit
  def predict(params, frames):
    latent, first = model.encode(params, frames)
    index = model.nearest(params, latent)
    return model.decode(params, params["codebook"][index], first), index

  found, index = predict(params, _frames(tensors))
  np.testing.assert_array_equal(index, tensors["out/indices"])
  np.testing.assert_array_equal(index, tensors["out/vq_indices"])
  assert len(np.unique(index)) > 1
  _close(rearrange(found, "b h w c -> b c h w"), tensors["out/recon"])


def test_training_at_given_noise(case):
  model, params, tensors, _ = case
  noise = tensors["in/nsvq_noise"].reshape(
      3, model.config.slots, model.config.code_width)
  (loss, (found, index)), grads = jax.jit(jax.value_and_grad(
      model.loss_at, has_aux=True))(params, _frames(tensors), noise)
  _close(loss, tensors["out/train_loss"][0])
  _close(rearrange(found, "b h w c -> b c h w"), tensors["out/train_recon"])
  assert len(np.unique(index)) == tensors["out/train_num_unique"][0]
  for ours, theirs in (
      (grads["codebook"], tensors["out/grad_codebooks"]),
      (grads["encoder"]["slots"]["narrow"]["kernel"].T,
       tensors["out/grad_project_in"])):
    assert np.abs(theirs).max() > 1e-4
    _close(ours, theirs)


def test_the_released_file_is_read_whole_or_not_at_all(case, tmp_path):
  model, params, _, released = case
  file = tmp_path / "laq.pt"
  # As saved from several devices; empty tensors have no storage here.
  torch_archive.save(file, {f"module.{name}": tensor for name, tensor
                            in released.items() if tensor.size})
  found = lapa.load(file, model.config)
  jax.tree.map(np.testing.assert_array_equal, found, params)
  torch_archive.save(file, {name: tensor for name, tensor in released.items()
                            if tensor.size and name != "vq.codebooks"} | {
                                "vq.strange": np.zeros(1, np.float32)})
  with pytest.raises(errors.CheckpointError, match=(
      r"laq\.pt.*1 tensors without a place: vq\.strange; "
      "1 parameters without a tensor: codebook")):
    lapa.load(file, model.config)


def test_export_gives_the_released_file_back(case):
  _, params, _, released = case
  exported = weights.export(params, lapa_weights.names())
  left = released.keys() - exported.keys()
  assert exported.keys() <= released.keys()
  for name, tensor in exported.items():
    np.testing.assert_array_equal(tensor, released[name])
  # What is left out says nothing: zeros, nothing, or never read.
  for name in left:
    assert not released[name].any() or name.endswith("context_norm.gamma")
  assert not any(".2." in name and "beta" not in name for name in left)
