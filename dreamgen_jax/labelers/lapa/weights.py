"""The released names of LAPA's latent action quantisation (laq_*.pt)."""

import os
import pathlib

import jax

from dreamgen_jax import errors, folder, interfaces, weights
from dreamgen_jax.labelers.lapa import model

_WRAPPER = "module."  # of a model that was trained on several devices
_DEPTHWISE = weights.Transform(
    "depthwise conv (c, 1, t, h, w) -> (t, h, w, c)",
    lambda x: x.squeeze(1).transpose(1, 2, 3, 0),
    lambda x: x.transpose(3, 0, 1, 2)[:, None])


def names() -> weights.Table:
  """The table for every config."""
  rules: list[weights.Rule | weights.Ignore] = [
      weights.Rule("vq.codebooks", "codebook")]
  for theirs, ours in (("0.0", "in"), ("1.0", "hidden"), ("2", "out")):
    rules += weights.dense(f"spatial_rel_pos_bias.net.{theirs}",
                           f"positions/{ours}")
  patches = "to_patch_emb_first_frame"
  rules += weights.norm(f"{patches}.1", "encoder/patches/norm_in")
  rules += weights.dense(f"{patches}.2", "encoder/patches/in")
  rules += weights.norm(f"{patches}.3", "encoder/patches/norm_out")
  rules += weights.dense("vq.project_in", "encoder/slots/narrow")
  for i, place in enumerate((0, 2)):
    rules += weights.conv(f"vq.cnn_encoder.{place}",
                          f"encoder/slots/conv_{i}", weights.conv2d)
  rules += weights.dense("vq.project_out", "decoder/codes")
  rules += weights.dense("to_pixels_first_frame.0", "decoder/pixels")
  for theirs, ours in (("enc_spatial", "encoder/spatial"),
                       ("enc_temporal", "encoder/temporal"),
                       ("dec_spatial", "decoder/spatial")):
    rules += _transformer(f"{theirs}_transformer", ours)
  return [
      *rules,
      weights.Ignore(r".*norm(_out)?\.beta", "zeros that are not trained"),
      weights.Ignore(r".*\.1\.(null_kv|context_norm\.gamma)",
                     "of a context, which self-attention has none of"),
  ]


def _transformer(theirs, ours):
  layer, blocks = f"{theirs}.layers.{{i}}", f"{ours}/blocks"
  rules = weights.conv(
      f"{layer}.0.dsconv", f"{blocks}/positions", _DEPTHWISE)
  rules.append(weights.Rule(f"{theirs}.norm_out.gamma", f"{ours}/norm/scale"))
  for place, name in ((1, "attention"), (2, "cross")):
    source, path = f"{layer}.{place}", f"{blocks}/{name}"
    rules += [
        weights.Rule(f"{source}.{{p:q|k}}_scale", f"{path}/{{p}}_scale"),
        weights.Rule(f"{source}.norm.gamma", f"{path}/norm/scale"),
        weights.Rule(f"{source}.to_kv.weight", f"{path}/k/kernel",
                     weights.linear, pieces=(0,), of=2),
        weights.Rule(f"{source}.to_kv.weight", f"{path}/v/kernel",
                     weights.linear, pieces=(1,), of=2),
    ]
    rules += weights.dense(f"{source}.to_q", f"{path}/q", bias=False)
    rules += weights.dense(f"{source}.to_out", f"{path}/o", bias=False)
  rules += [
      weights.Rule(f"{layer}.2.null_kv", f"{blocks}/cross/null"),
      weights.Rule(f"{layer}.2.context_norm.gamma",
                   f"{blocks}/cross/context_norm/scale"),
  ]
  rules += weights.norm(f"{layer}.3.0", f"{blocks}/mlp/norm")
  rules += weights.dense(f"{layer}.3.1", f"{blocks}/mlp/in", bias=False)
  return rules + weights.dense(f"{layer}.3.4", f"{blocks}/mlp/out", bias=False)


def load(source: str | os.PathLike, config: model.Config) -> interfaces.Params:
  """Reads a released file; nothing in it is executed.

  Args:
    source: a .pt or .safetensors file, or the folder of one.
    config: the preset that it is of.

  Raises:
    CheckpointError: missing, damaged, or not of this preset; lists every
      tensor without a place and every parameter without a tensor.
  """
  tensors = {name.removeprefix(_WRAPPER): tensor for name, tensor
             in folder.open_tensors(pathlib.Path(source)).items()}
  target = jax.eval_shape(model.Model(config).init, jax.random.key(0))
  try:
    return weights.load(tensors, names(), target)
  except errors.CheckpointError as error:
    raise errors.CheckpointError(f"{source}: {error}") from error
