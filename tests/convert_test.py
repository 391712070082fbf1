"""The program, its memory, and golden weights through it."""

import dataclasses
import pathlib
import subprocess
import sys
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import pytest

from dreamgen_jax import convert, folder, safetensors
from dreamgen_jax.encoders import clip, t5
from dreamgen_jax.world_models import wan
from dreamgen_jax.world_models.wan import dit, original, vae, vae_weights
from dreamgen_jax.world_models.wan import weights as dit_weights
from tools import convert_memory


@dataclasses.dataclass(frozen=True)
class _Golden:
  """Stands for a model: parts that need not fit each other."""

  config: tuple[tuple[str, Any, tuple], ...]

  def init(self, rng):
    return {part: build(rng, *arguments)
            for part, build, arguments in self.config}


def _flax(rng, module, *arguments):
  return module.init(rng, *arguments)["params"]


def _transformer(kwargs):
  c = dit.Config(
      width=kwargs["num_attention_heads"] * kwargs["attention_head_dim"],
      heads=kwargs["num_attention_heads"], layers=kwargs["num_layers"],
      ffn=kwargs["ffn_dim"], in_channels=kwargs["in_channels"],
      out_channels=kwargs["out_channels"], text_dim=kwargs["text_dim"],
      text_len=8, freq_dim=kwargs["freq_dim"], image_dim=kwargs["image_dim"])
  arguments = (dit.Transformer(c), jnp.zeros((1, 1, 2, 2, c.in_channels)),
               jnp.zeros(1), jnp.zeros((1, 8, c.text_dim)),
               jnp.zeros((1, 257, c.image_dim)))
  return _flax, arguments, dit_weights.NAMES


def _autoencoder(kwargs):
  c = vae.VaeConfig(
      base_dim=kwargs["base_dim"], z_dim=kwargs["z_dim"],
      dim_mult=tuple(kwargs["dim_mult"]),
      num_res_blocks=kwargs["num_res_blocks"],
      temporal_downsample=tuple(kwargs["temperal_downsample"]),
      latents_mean=tuple(kwargs["latents_mean"]),
      latents_std=tuple(kwargs["latents_std"]))
  return lambda rng, c: vae.init(c, rng), (c,), {
      dialect: vae_weights.names(dialect, c) for dialect in folder.DIALECTS}


def _text(kwargs):
  c = t5.Config(
      vocabulary=kwargs["vocab_size"], width=kwargs["d_model"],
      heads=kwargs["num_heads"], head_dim=kwargs["d_kv"], ffn=kwargs["d_ff"],
      layers=kwargs["num_layers"], bias_everywhere=True)
  return _flax, (t5.Encoder(c), jnp.zeros((1, 4), jnp.int32)), {
      "diffusers": t5.NAMES, "original": original.TEXT}


def _image(kwargs):
  c = clip.Config(
      width=kwargs["hidden_size"], depth=kwargs["num_hidden_layers"],
      heads=kwargs["num_attention_heads"], patch=kwargs["patch_size"],
      mlp_width=kwargs["intermediate_size"], image_size=kwargs["image_size"])
  pixels = jnp.zeros((1, c.image_size, c.image_size, 3))
  return _flax, (clip.Tower(c), pixels), {
      "diffusers": clip.names(c.patch), "original": original.image(c.patch)}


CASES = {"wan_i2v": ("transformer", _transformer),
         "wan_vae": ("vae", _autoencoder), "umt5": ("text", _text),
         "clip_vision": ("image", _image)}


@pytest.mark.parametrize("case", CASES)
def test_golden_weights_come_back_bit_for_bit(golden, tmp_path, case):
  config, files = golden(case)
  part, build = CASES[case]
  init, arguments, names = build(config["kwargs"])
  family = folder.Family(
      "Golden", tmp_path, _Golden, lambda _: {
          part: folder.Part(part, {"_class_name": "Golden"}, names)}, str)
  (tmp_path / "a" / part).mkdir(parents=True)
  (tmp_path / "a" / part / "config.json").write_text("{}")
  safetensors.write(tmp_path / "a" / part / "model.safetensors",
                    files["weights"])
  steps = ("a", "b", "c")
  for source, output, dialect in zip(
      steps, steps[1:], ("original", "diffusers"), strict=False):
    family.convert(tmp_path / source, tmp_path / output,
                   ((part, init, arguments),), [part], dialect)
  theirs, back = (safetensors.read(tmp_path / name / part) for name in "bc")
  assert theirs.keys() != files["weights"].keys()
  assert back.keys() == files["weights"].keys()
  for name, tensor in files["weights"].items():
    assert back[name].dtype == tensor.dtype
    assert back[name].shape == tensor.shape
    assert back[name].tobytes() == tensor.tobytes()


SMALL = dataclasses.replace(
    wan.PRESETS["nano"], transformer=dataclasses.replace(
        wan.PRESETS["nano"].transformer, width=768, heads=6, ffn=3072,
        layers=4))


def test_memory_does_not_grow_with_the_checkpoint(tmp_path):
  figures = convert_memory.measure(
      tmp_path, wan.load.__self__, SMALL, ["transformer"], "bfloat16")
  assert figures["read"] > 150e6 and figures["written"] > 75e6
  assert figures["largest tensor"] < 20e6
  assert figures["growth"] < 50e6, figures
  assert not list(tmp_path.iterdir())


def _run(*arguments):
  return convert.main(["convert", *(f"--{text}" for text in arguments)])


@pytest.fixture
def source(tmp_path, monkeypatch):
  config = dataclasses.replace(
      SMALL, transformer=dataclasses.replace(
          SMALL.transformer, width=24, heads=2, ffn=32, layers=1))
  monkeypatch.setitem(wan.PRESETS, "small", config)
  convert_memory.make(tmp_path / "in", wan.load.__self__, config, None)
  return tmp_path / "in"


def test_the_program(source, tmp_path, capsys):
  assert _run("family=wan", "preset=small", f"source={source}",
              f"output={tmp_path / 'out'}", "dtype=bfloat16",
              "dialect=original", "parts=transformer,vae") == 0
  assert capsys.readouterr().out.startswith("Wrote 0.0")
  found = safetensors.read(tmp_path / "out/transformer")
  assert found["head.head.weight"].dtype == ml_dtypes.bfloat16
  assert {path.name for path in (tmp_path / "out").iterdir()} == {
      "transformer", "vae"}
  assert not {path for path in tmp_path.iterdir()} - {
      source, tmp_path / "out"}


@pytest.mark.parametrize("change, message", [
    ({"family": "wam"}, "Unknown world model 'wam'"),
    ({"preset": "nono"}, "wan has no preset 'nono'; have:"),
    ({"source": ""}, "No source; give --source: the checkpoint's folder"),
    ({"dtype": "int8"}, "Unknown dtype 'int8'; have: bfloat16"),
    ({"dialect": "latin"}, "Unknown dialect 'latin'; have: diffusers"),
    ({"parts": "transformer,eyes"}, "Wan has no part 'eyes'"),
    ({"outputs": "x"}, "Unknown option --outputs. Did you mean 'output'?"),
])
def test_mistakes_are_one_line(source, tmp_path, capsys, change, message):
  options = {"family": "wan", "preset": "small", "source": source,
             "output": tmp_path / "out"} | change
  assert _run(*(f"{name}={value}" for name, value in options.items())) == 2
  said = capsys.readouterr()
  assert message in said.err and said.err.count("\n") == 1
  assert not (tmp_path / "out").exists()


def test_help_names_every_option_before_jax_is_imported(capsys):
  done = subprocess.run(
      [sys.executable, "-c", "import sys\nfrom dreamgen_jax import convert\n"
       "convert.main(['convert', '--help'])\nassert 'jax' not in sys.modules"],
      capture_output=True, text=True,
      cwd=pathlib.Path(convert.__file__).parents[1])
  assert done.returncode == 0, done.stderr
  for option in ("family", "preset", "source", "output", "dialect", "parts"):
    assert f"--{option}" in done.stdout
