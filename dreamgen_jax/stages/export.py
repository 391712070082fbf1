"""Stage: a world model trained from nothing -> a released-style folder.

Writes safetensors, configs and tokenizer, and a model card with what the
stages before measured.
"""

import datetime
import pathlib
from typing import Any

import jax

from dreamgen_jax import checkpoint, runtime
from dreamgen_jax.encoders import tokenizer as tokenizer_lib
from dreamgen_jax.stages import artefact, models
from dreamgen_jax.world_models.wan import folder as wan_folder
from dreamgen_jax.world_models.wan import model as wan
from dreamgen_jax.world_models.wan import presets


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Joins the parts and writes them in half precision."""
  vae, facts = checkpoint.load(inputs["vae"] / "checkpoint")
  params, _ = checkpoint.load(inputs["world_model"] / "checkpoint")
  model = wan.Model(presets.with_latent_statistics(
      models.build("world_models", config.model).config,
      facts["latents_mean"], facts["latents_std"]))
  tokenizer = tokenizer_lib.load(str(inputs["world_model"] / "tokenizer.json"))
  wan_folder.save(folder / "nano", model, params | {"vae": vae}, tokenizer)
  (folder / "nano" / "README.md").write_text(_card(config, inputs, params, vae))
  size = sum(file.stat().st_size for file in (folder / "nano").rglob("*")
             if file.is_file())
  return {"bytes": size}


_CARD = """# nano: a world model for the simulated tabletop

The classes of Wan 2.1 (image to video) at nano size, trained from nothing.
{parameters}
It turns a first frame (64x64) and an instruction into 17 frames at 5 Hz.

- Data: {clips} of {robots},
  doing {verbs} verbs in {scenes} rooms; video and caption, no actions. The
  Franka Panda and the room `wood`, which the quickstart uses, are in none.
- Autoencoder: {vae_steps} steps of {vae_batch} clips, {vae_seconds:.0f} s;
  PSNR on held-out clips {psnr:.2f} dB.
- Transformer and text encoder: {steps} steps of {batch} clips, {seconds:.0f} s;
  velocity error on held-out clips {error:.4f}.
- Date: {date}. Machine: {machine}.
- Rebuild: `python -m dreamgen_jax.main --config=configs/nano_pretrain.py
  --workdir=runs/nano_pretrain`, then copy `export/nano` here.

Limits: it knows these verbs, colours and words only, and says so when a prompt
has others. It was made to show the road, not to be a good video model.
"""


def _card(config: Any, inputs: dict[str, pathlib.Path], params: Any,
          vae: Any) -> str:
  """The model card, with the numbers of the stages that made the parts."""
  records = {name: artefact.read_json(path / artefact.DONE)
             for name, path in inputs.items()}
  corpus, vae_train, train = config.corpus, (
      records["vae"]["config"]["train"]), records["world_model"]["config"][
          "train"]
  clips = records["latents"]["metrics"]["clips"]
  sizes = {"transformer": params["transformer"], "text encoder":
           params["text"], "autoencoder": vae}
  return _CARD.format(
      parameters="Parameters: " + ", ".join(
          f"{name} {sum(leaf.size for leaf in jax.tree.leaves(tree)):,}"
          for name, tree in sizes.items()) + ".",
      clips=" and ".join(f"{count} clips ({name})"
                         for name, count in clips.items()
                         if name != "heldout"),
      robots=", ".join(corpus.robots), verbs=len(corpus.verbs),
      scenes=len(corpus.scenes), vae_steps=vae_train["steps"],
      vae_batch=vae_train["batch_size"],
      vae_seconds=records["vae"]["seconds"],
      psnr=records["vae"]["metrics"]["heldout_psnr"], steps=train["steps"],
      batch=train["batch_size"], seconds=records["world_model"]["seconds"],
      error=records["world_model"]["metrics"]["heldout_error"],
      date=datetime.date.today().isoformat(), machine=runtime.machine())
