"""GR00T N1's checkpoint folders: config.json and model*.safetensors."""

import json
import os
import pathlib
from typing import Any

import jax
import numpy as np

from dreamgen_jax import facts, interfaces, lazy, safetensors, weights
from dreamgen_jax import folder as folder_lib
from dreamgen_jax.policies.groot_n1 import model
from dreamgen_jax.policies.groot_n1 import weights as names

# What a policy may do otherwise than the folder says.
_FREE = {"action_horizon", "num_inference_timesteps", "dropout"}


def load(source: str | os.PathLike, config: model.Config,
         dtype: Any = None) -> interfaces.Params:
  """Reads a released, or a tuned and saved, policy.

  Args:
    source: the folder.
    config: the preset that it is of; horizon, cameras and the robot's widths
      are free.
    dtype: of the parameters; None is float32.

  Raises:
    CheckpointError: missing, damaged, or of another model.
  """
  place = pathlib.Path(source)
  tensors = folder_lib.open_tensors(place)
  if (place / "config.json").is_file():
    facts.read(place / "config.json", _sizes(describe(config)), "this policy")
  target = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype or leaf.dtype),
      jax.eval_shape(model.Model(config).init, jax.random.key(0)))
  return weights.load(
      names.without_leftover(tensors, config), names.names(config), target)


def save(folder: str | os.PathLike, params: interfaces.Params,
         config: model.Config, dtype: Any = "bfloat16") -> None:
  """Writes a folder that `load`, and NVIDIA's programs, read."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  released = weights.export(
      jax.tree.map(np.asarray, params), names.names(config))
  safetensors.write_folder(folder, "model", {
      name: lazy.Array(tensor.shape, jax.numpy.dtype(dtype or tensor.dtype),
                       lambda tensor=tensor: np.asarray(tensor))
      for name, tensor in released.items()}, {"format": "pt"})
  (folder / "config.json").write_text(
      json.dumps(describe(config), indent=2) + "\n")


def describe(config: model.Config) -> dict[str, Any]:
  """The config.json, in the released file's words."""
  h, b = config.head, config.backbone
  return {
      "architectures": ["GR00T_N1"], "model_type": "gr00t_n1",
      "action_dim": h.action_width, "action_horizon": config.horizon,
      "hidden_size": b.language.width,
      "action_head_cfg": {
          "action_dim": h.action_width, "max_action_dim": h.action_width,
          "max_state_dim": h.state_width, "action_horizon": config.horizon,
          "hidden_size": h.hidden, "input_embedding_dim": h.width,
          "max_seq_len": h.positions, "max_num_embodiments": h.embodiments,
          "add_pos_embed": True, "noise_beta_alpha": config.time_power,
          "noise_beta_beta": 1.0, "noise_s": config.time_scale,
          "num_timestep_buckets": config.time_buckets,
          "num_inference_timesteps": config.sample_steps,
          "diffusion_model_cfg": {
              "num_attention_heads": h.heads,
              "attention_head_dim": h.width // h.heads,
              "num_layers": h.depth, "output_dim": h.hidden,
              "dropout": h.dropout, "final_dropout": True,
              "interleave_self_attention": True, "norm_type": "ada_norm",
              "positional_embeddings": None},
      },
      "backbone_cfg": {
          "select_layer": b.language.layers,
          "projector_dim": b.language.width, "reproject_vision": False,
          "tune_llm": False, "tune_visual": True},
  }


def _sizes(said: dict[str, Any]) -> dict[str, Any]:
  """What of a description must agree."""
  return {key: _sizes(value) if isinstance(value, dict) else value
          for key, value in said.items()
          if key not in _FREE and not key.startswith(("noise", "tune"))}
