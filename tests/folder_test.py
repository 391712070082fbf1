"""Checkpoint folders: both layouts and dialects, streaming, and mistakes."""

import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import ml_dtypes
import numpy as np
import pytest

from dreamgen_jax import errors, paths, registry, safetensors
from dreamgen_jax.encoders import clip, t5, tokenizer
from dreamgen_jax.world_models import wan
from dreamgen_jax.world_models.wan import dit
from dreamgen_jax.world_models.wan import folder as wan_folder
from tests import torch_archive

ROOT = pathlib.Path(__file__).resolve().parents[1]
_NANO = wan.PRESETS["nano"]
_VAE = dataclasses.replace(
    _NANO.vae, base_dim=4, dim_mult=(1, 2, 2), latents_mean=(0.5,) * 8)
CONFIG = dataclasses.replace(
    _NANO, frames=5, height=32, width=32, vae=_VAE,
    transformer=dit.Config(
        width=24, heads=2, layers=3, ffn=32, in_channels=16 + _VAE.time_factor,
        out_channels=8, patch=(1, 2, 2), text_dim=12, text_len=4, freq_dim=16,
        image_dim=16),
    text=t5.Config(vocabulary=32, width=12, heads=2, head_dim=8, ffn=16,
                   layers=2, bias_everywhere=True),
    image=clip.Config(width=16, depth=2, heads=2, mlp_width=24, patch=8,
                      image_size=16))


@functools.cache
def _params():
  random = np.random.default_rng(0)
  return jax.tree.map(
      lambda leaf: random.standard_normal(leaf.shape).astype(np.float32),
      jax.eval_shape(wan.Model(CONFIG).init, jax.random.key(0)))


@functools.cache
def _words():
  return tokenizer.train(["pick up the red block"], 32)


def _equal(found, wanted):
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


def _save(folder, dialect="diffusers"):
  wan.save(folder, wan.Model(CONFIG), _params(), _words(), None, dialect)
  return folder


@pytest.fixture
def released(tmp_path):
  """A folder as released: the transformer in shards, of mixed dtypes."""
  folder = _save(tmp_path / "released")
  part = folder / "transformer"
  tensors = dict(safetensors.read(part))
  for path in part.glob("*.safetensors"):
    path.unlink()
  for name in tensors:
    if ".to_q." in name:
      tensors[name] = tensors[name].astype(np.float16)
    elif ".to_k." in name:
      tensors[name] = tensors[name].astype(ml_dtypes.bfloat16)
  files = safetensors.write_folder(
      part, "diffusion_pytorch_model", tensors, limit=20_000)
  assert len(files) > 3
  return folder


def _rounded():
  """The parameters after the fixture's dtypes."""
  flat = paths.flatten(_params())
  for path, leaf in flat.items():
    kind = {"q": np.float16, "k": ml_dtypes.bfloat16}.get(path.split("/")[-2])
    if path.startswith("transformer/blocks") and kind:
      flat[path] = leaf.astype(kind).astype(np.float32)
  return paths.unflatten(flat)


def test_mixed_dtypes_and_shards(released):
  model, params, words = wan.load(released, CONFIG)
  assert model == wan.Model(CONFIG)
  _equal(params, _rounded())
  assert words.to_str() == _words().to_str()
  _, params, _ = wan.load(released, CONFIG, ("text",),
                          dtype={"text": ml_dtypes.bfloat16})
  assert set(params) == {"text"}
  assert params["text"]["norm"]["scale"].dtype == ml_dtypes.bfloat16


def test_save_leaves_other_files_and_replaces_parts(tmp_path):
  (tmp_path / "vae").mkdir()
  (tmp_path / "vae" / "old").touch()
  (tmp_path / "README.md").touch()
  _save(tmp_path)
  assert {path.name for path in tmp_path.iterdir()} == {
      "transformer", "vae", "text_encoder", "image_encoder", "tokenizer",
      "README.md"}
  assert not (tmp_path / "vae" / "old").exists()
  wan.save(tmp_path, wan.Model(CONFIG), _params(), _words())
  half = safetensors.read(tmp_path / "vae")
  assert {tensor.dtype for tensor in half.values()} == {np.dtype(np.float16)}


def test_a_folder_is_whole_or_not_there(tmp_path, released, monkeypatch):
  def fail(*_, **__):
    raise RuntimeError("full")

  monkeypatch.setattr(safetensors, "write_folder", fail)
  with pytest.raises(RuntimeError):
    wan.convert(released, tmp_path / "new", CONFIG)
  with pytest.raises(RuntimeError):
    _save(tmp_path / "other")
  assert [path.name for path in tmp_path.iterdir()] == ["released"]


def _bits(folder):
  return {(part.name, name): (tensor.dtype, tensor.shape, tensor.tobytes())
          for part in sorted(folder.iterdir()) if any(
              part.glob("*.safetensors"))
          for name, tensor in safetensors.read(part).items()}


def test_both_dialects_and_back_bit_for_bit(tmp_path, released):
  (released / "scheduler").mkdir()
  (released / "scheduler" / "scheduler_config.json").write_text("{}")
  before = _bits(released)
  size = wan.convert(released, tmp_path / "theirs", CONFIG, dialect="original")
  assert size == sum(len(data) for *_, data in before.values())
  theirs = {name for _, name in _bits(tmp_path / "theirs")}
  assert {"blocks.0.self_attn.q.weight", "token_embedding.weight",
          "visual.transformer.1.attn.to_qkv.bias",
          "decoder.middle.0.residual.2.weight"} <= theirs
  _equal(wan.load(tmp_path / "theirs", CONFIG)[1], _rounded())
  wan.convert(tmp_path / "theirs", tmp_path / "again", CONFIG)
  assert _bits(tmp_path / "again") == before
  assert (tmp_path / "again/scheduler/scheduler_config.json").exists()
  assert (tmp_path / "again/tokenizer/tokenizer.json").read_bytes() == (
      released / "tokenizer/tokenizer.json").read_bytes()


def test_the_layout_of_the_authors(tmp_path, released):
  """Shards in the folder itself, the other parts in .pth files."""
  named = _save(tmp_path / "named", "original")
  root = tmp_path / "authors"
  root.mkdir()
  safetensors.write_folder(
      root, "diffusion_pytorch_model",
      safetensors.read(named / "transformer"), limit=20_000)
  (root / "config.json").write_text('{"_class_name": "WanModel"}')
  for part, file in (("vae", "Wan2.1_VAE.pth"),
                     ("text_encoder", "models_t5_umt5-xxl-enc-bf16.pth"),
                     ("image_encoder", "models_clip_open-clip.pth")):
    tensors = dict(safetensors.read(named / part))
    if part == "image_encoder":
      tensors |= {"textual.head.0.weight": np.zeros((2, 2), np.float32),
                  "log_scale": np.float32(1)}
    torch_archive.save(root / file, tensors)
  (root / "google").mkdir()
  (released / "tokenizer").rename(root / "google" / "umt5-xxl")
  model, params, _ = wan.load(root, CONFIG)
  assert model == wan.Model(CONFIG)  # with the preset's latent statistics
  _equal(params, _params())
  wan.convert(root / "Wan2.1_VAE.pth", tmp_path / "one", CONFIG, ["vae"])
  assert [path.name for path in (tmp_path / "one").iterdir()] == ["vae"]
  _, params, words = wan.load(tmp_path / "one", CONFIG, ["vae"])
  _equal(params, {"vae": _params()["vae"]})
  assert words is None


@functools.cache
def _nano(family):
  """The family's own, a model of nano size, and what its folder holds."""
  module = registry.find("world_models", family)
  model = module.Model(module.PRESETS["nano"])
  random = np.random.default_rng(0)
  params = jax.tree.map(
      lambda leaf: random.random(leaf.shape, np.float32).astype(np.float16),
      jax.eval_shape(model.init, jax.random.key(0)))
  names = module.load.__self__.tokenizers
  words = _words() if len(names) == 1 else dict.fromkeys(names, _words())
  return module, model, params, words


@pytest.mark.parametrize("family", registry.names("world_models"))
def test_every_family(tmp_path, family):
  module, model, params, words = _nano(family)
  module.save(tmp_path / "a", model, params, words)
  again, loaded, found = module.load(tmp_path / "a", model.config,
                                     dtype=np.float16)
  assert again == model
  _equal(loaded, params)
  if isinstance(words, dict):
    assert found.keys() == words.keys()
  theirs = [name for name, part in module.load.__self__.parts(
      model.config).items() if "original" in part.names]
  if theirs:
    module.convert(tmp_path / "a", tmp_path / "b", model.config, theirs,
                   "original")
    _, loaded, _ = module.load(tmp_path / "b", model.config, theirs,
                               dtype=np.float16)
    _equal(loaded, {part: params[part] for part in theirs})
  others = [name for name in registry.names("world_models") if name != family]
  other, reader, *_ = _nano(others[0])
  with pytest.raises(errors.CheckpointError, match=f"family {family}; the "):
    other.load(tmp_path / "a", reader.config)


PROGRAM = """
import functools, sys
import jax, numpy as np
from dreamgen_jax import sharding
from dreamgen_jax.world_models import wan
from tests import folder_test

on = sharding.mesh({"fsdp": 2, "data": 2})
rules = functools.partial(sharding.by_rules, rules=wan.RULES, on=on)
options = dict(parts=["transformer"], dtype="bfloat16")
_, params, _ = wan.load(
    sys.argv[1], folder_test.CONFIG, sharding=rules, **options)
_, host, _ = wan.load(sys.argv[1], folder_test.CONFIG, **options)
wanted = rules(jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), host))

def check(found, leaf, sharding):
  assert found.sharding == sharding and found.dtype == "bfloat16"
  np.testing.assert_array_equal(np.asarray(found), leaf)

jax.tree.map(check, params, host, wanted)
kernel = params["transformer"]["blocks"]["self_attn"]["q"]["kernel"]
assert kernel.addressable_shards[0].data.shape == (3, 12, 24), kernel.sharding
print("all shards are right")
"""


def test_devices_get_their_shards(tmp_path):
  folder = _save(tmp_path / "a")
  done = subprocess.run(
      [sys.executable, "-c", PROGRAM, str(folder)], cwd=ROOT,
      capture_output=True, text=True, env=os.environ | {
          "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
          "JAX_PLATFORMS": "cpu"})
  assert "all shards are right" in done.stdout, done.stderr


# --- mistakes ---------------------------------------------------------------


def _edit(folder, part, change):
  """Rewrites a part's tensors in one file."""
  tensors = dict(safetensors.read(folder / part))
  for path in (folder / part).glob("*model*"):
    path.unlink()
  change(tensors)
  safetensors.write(folder / part / "model.safetensors", tensors)


def _fails(folder, message, config=CONFIG, parts=None):
  with pytest.raises(errors.UserError, match=message) as error:
    wan.load(folder, config, parts)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("part, facts, message", [
    ("transformer", {"_class_name": "CogVideoXTransformer3DModel"},
     "is of a CogVideoXTransformer3DModel.*of Wan is a WanTransformer3DModel"),
    ("text_encoder", {"architectures": ["LlamaForCausalLM"]},
     "is of a LlamaForCausalLM; the text of Wan is a UMT5EncoderModel"),
    ("transformer", {"num_layers": 4},
     "num_layers = 4; the preset has 3. Choose the preset"),
])
def test_another_family_or_size(released, part, facts, message):
  path = released / part / "config.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | facts))
  _fails(released, message)


def test_transformers_classes_of_one_kind_are_alike(released):
  path = released / "image_encoder/config.json"
  facts = json.loads(path.read_text())
  facts["architectures"] = ["CLIPVisionModelWithProjection"]
  path.write_text(json.dumps(facts))
  wan.load(released, CONFIG, ["image"])


def test_a_known_family_is_named(released, tmp_path, monkeypatch):
  monkeypatch.setattr("dreamgen_jax.registry.names", lambda _: ["other"])
  path = released / "transformer/config.json"
  path.write_text('{"_class_name": "OtherTransformer3DModel"}')
  _fails(released, "family other; the transformer of Wan")


def test_a_truncated_shard(released):
  path = sorted((released / "transformer").glob("*.safetensors"))[1]
  path.write_bytes(path.read_bytes()[:-1])
  _fails(released, f"{path.name} is cut off")


def test_tensors_that_do_not_fit(released):
  def reshape(tensors):
    tensors["decoder.norm_out.gamma"] = np.zeros((5, 1, 1, 1), np.float32)

  def add(tensors):
    tensors["decoder.extra.weight"] = np.zeros(1, np.float32)
    reshape(tensors)

  def drop(tensors):
    del tensors["decoder.extra.weight"], tensors["decoder.conv_in.bias"]

  _edit(released, "vae", reshape)
  _fails(released, r"vae: The weights do not fit.* 1 of wrong shape: "
         r"decoder.norm_out.gamma \(5, 1, 1, 1\) .* for decoder/norm_out")
  _edit(released, "vae", add)
  _fails(released, "1 tensors without a place: decoder.extra.weight; 1 of")
  _edit(released, "vae", drop)
  _fails(released, "1 parameters without a tensor: decoder/conv_in/bias; 1 of")


def test_names_of_no_dialect(released):
  _edit(released, "vae", lambda tensors: tensors.clear())
  _fails(released, "vae: None of 0 tensors .* tables diffusers, original")


def test_missing_parts_and_files(tmp_path, released):
  _fails(tmp_path / "nowhere", "No checkpoint part at .*nowhere/transformer; a "
         "Wan folder of this preset holds transformer, vae, .* and tokenizer")
  (released / "vae/config.json").write_text("{")
  _fails(released, "vae/config.json is damaged")
  (released / "vae/config.json").unlink()
  _fails(released, "No checkpoint part at .*vae/config.json")
  for file in (released / "image_encoder").glob("*.safetensors"):
    file.unlink()
  _fails(released, "No .safetensors file in .*image_encoder", parts=["image"])
  _fails(released, "no part 'images'; have: transformer", parts=["images"])
  file = tmp_path / "a.pth"
  torch_archive.save(file, {"x": np.zeros(1, np.float32)})
  _fails(file, "one file, which holds one part")
  for name in ("Wan2.1_VAE.pth", "Wan2.2_VAE.pth"):
    torch_archive.save(tmp_path / name, {"x": np.zeros(1, np.float32)})
  _fails(tmp_path, "2 files of the vae: Wan2.1_VAE.pth", parts=["vae"])


def test_what_convert_refuses(tmp_path, released, monkeypatch):
  with pytest.raises(errors.UserError, match="not an empty folder"):
    wan.convert(released, released, CONFIG)
  with pytest.raises(errors.UserError, match="Unknown dialect 'german'"):
    wan.convert(released, tmp_path / "a", CONFIG, dialect="german")
  monkeypatch.setattr(
      "shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
  with pytest.raises(errors.UserError, match="disk has 0.0 GB left"):
    wan.convert(released, tmp_path / "a", CONFIG)
  assert not (tmp_path / "a").exists()
  known = wan_folder.parts(CONFIG)
  family = dataclasses.replace(wan_folder.FAMILY, parts=lambda _: {
      part: dataclasses.replace(about, names={"diffusers": about.names[
          "diffusers"]}) for part, about in known.items()})
  with pytest.raises(errors.UserError, match="vae of Wan has no 'original'"):
    family.convert(released, tmp_path / "a", CONFIG, ["vae"], "original")
