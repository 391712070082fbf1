"""Wan's checkpoint folders, in the layout of the released Diffusers ones.

  transformer/{config.json, *.safetensors}   vae/...   text_encoder/...
  tokenizer/tokenizer.json   image_encoder/... where the preset has one
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import tokenizers

from dreamgen_jax import errors, interfaces, safetensors, weights
from dreamgen_jax.encoders import clip, t5
from dreamgen_jax.encoders import tokenizer as tokenizer_lib
from dreamgen_jax.world_models.wan import model as model_lib
from dreamgen_jax.world_models.wan import presets, vae_weights
from dreamgen_jax.world_models.wan import weights as dit_weights

_FOLDERS = {"transformer": "transformer", "vae": "vae",
            "text": "text_encoder", "image": "image_encoder"}
_FILES = {"transformer": "diffusion_pytorch_model", "vae":
          "diffusion_pytorch_model", "text": "model", "image": "model"}


def locate(source: str) -> pathlib.Path:
  """The folder of weights that ship with the package, or the one named."""
  shipped = pathlib.Path(__file__).parent / source
  return shipped if shipped.is_dir() else pathlib.Path(source)


def load(source: str, config: model_lib.Config,
         parts: tuple[str, ...] | None = None
         ) -> tuple[model_lib.Model, interfaces.Params, tokenizers.Tokenizer]:
  """Reads a checkpoint folder.

  Args:
    source: the folder, or the name of weights that ship with the package
      ("nano").
    config: the preset that the folder is of; the latent statistics are the
      folder's own.
    parts: which parameters to read; None reads all.

  Returns:
    The model, its parameters in float32 on the host, and the tokenizer.

  Raises:
    CheckpointError: a part is missing, damaged, or not of this preset.
  """
  folder = locate(source)
  facts = {part: _read_config(folder / _FOLDERS[part], wanted)
           for part, wanted in _describe(config).items()}
  model = model_lib.Model(presets.with_latent_statistics(
      config, facts["vae"]["latents_mean"], facts["vae"]["latents_std"]))
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  params = {
      part: weights.load(_read_tensors(folder / _FOLDERS[part]),
                         _names(config)[part], shapes[part])
      for part in parts or facts
  }
  tokenizer = tokenizer_lib.load(str(folder / "tokenizer/tokenizer.json"))
  return model, params, tokenizer


def save(folder: pathlib.Path, model: model_lib.Model,
         params: interfaces.Params, tokenizer: tokenizers.Tokenizer,
         dtype: Any = np.float16) -> None:
  """Writes a checkpoint folder that `load`, and Diffusers' tools, read."""
  for part, facts in _describe(model.config).items():
    name = _FOLDERS[part]
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "config.json").write_text(
        json.dumps(facts, indent=2) + "\n")
    tensors = {key: np.ascontiguousarray(array, dtype) for key, array
               in weights.export(
                   params[part], _names(model.config)[part]).items()}
    safetensors.write(folder / name / f"{_FILES[part]}.safetensors", tensors)
  (folder / "tokenizer").mkdir(exist_ok=True)
  tokenizer.save(str(folder / "tokenizer/tokenizer.json"))


def _names(config: model_lib.Config) -> dict[str, weights.Table]:
  return {
      "transformer": dit_weights.names("diffusers", config.transformer.patch),
      "vae": vae_weights.NAMES["diffusers"], "text": t5.NAMES,
  } | ({"image": clip.names(config.image.patch)} if config.image else {})


def _describe(config: model_lib.Config) -> dict[str, dict[str, Any]]:
  """The config.json of each part, in the released files' words."""
  t, v, e = config.transformer, config.vae, config.text
  facts: dict[str, dict[str, Any]] = {
      "transformer": {
          "_class_name": "WanTransformer3DModel", "patch_size": list(t.patch),
          "num_attention_heads": t.heads, "attention_head_dim": t.head_dim,
          "in_channels": t.in_channels, "out_channels": t.out_channels,
          "text_dim": t.text_dim, "freq_dim": t.freq_dim, "ffn_dim": t.ffn,
          "num_layers": t.layers, "image_dim": t.image_dim,
          "pos_embed_seq_len": t.image_positions},
      "vae": {
          "_class_name": "AutoencoderKLWan", "base_dim": v.base_dim,
          "z_dim": v.z_dim, "dim_mult": list(v.dim_mult),
          "num_res_blocks": v.num_res_blocks,
          "temperal_downsample": list(v.temporal_downsample),
          "latents_mean": list(v.latents_mean),
          "latents_std": list(v.latents_std)},
      "text": {
          "architectures": ["UMT5EncoderModel"], "vocab_size": e.vocabulary,
          "d_model": e.width, "d_kv": e.head_dim, "d_ff": e.ffn,
          "num_layers": e.layers, "num_heads": e.heads,
          "relative_attention_num_buckets": e.buckets,
          "relative_attention_max_distance": e.max_distance},
  }
  if i := config.image:
    facts["image"] = {
        "architectures": ["CLIPVisionModel"],
        "model_type": "clip_vision_model", "hidden_size": i.width,
        "intermediate_size": i.mlp_width, "num_hidden_layers": i.depth,
        "num_attention_heads": i.heads, "image_size": i.image_size,
        "patch_size": i.patch, "hidden_act": "gelu",
        "layer_norm_eps": i.epsilon}
  return facts


def _read_config(folder: pathlib.Path,
                 wanted: Mapping[str, Any]) -> dict[str, Any]:
  path = folder / "config.json"
  try:
    found = json.loads(path.read_text())
  except (FileNotFoundError, NotADirectoryError):
    raise errors.CheckpointError(
        f"No checkpoint part at {path}; a Wan folder holds transformer, vae, "
        "text_encoder and tokenizer, Wan 2.1's image_encoder too.") from None
  except ValueError as error:
    raise errors.CheckpointError(f"{path} is damaged: {error}.") from error
  for key, value in wanted.items():
    if key.startswith("latents_") or key in ("_class_name", "architectures"):
      continue
    if found.get(key, value) != value:
      raise errors.CheckpointError(
          f"{path} says {key} = {found[key]!r}; the preset has {value!r}. "
          "Choose the preset that this checkpoint is of.")
  return dict(wanted) | found


def _read_tensors(folder: pathlib.Path) -> dict[str, Any]:
  files = sorted(folder.glob("*.safetensors"))
  if not files:
    raise errors.CheckpointError(f"No .safetensors file in {folder}.")
  return {name: tensor for file in files
          for name, tensor in safetensors.read(file).items()}
