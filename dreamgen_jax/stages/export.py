"""Stage: a world model trained from nothing -> a released-style folder.

Writes safetensors, configs and tokenizer, and a model card with what the
stages before measured.
"""

import datetime
import pathlib
from typing import Any

import jax

from dreamgen_jax import checkpoint, registry, runtime
from dreamgen_jax.encoders import tokenizer as tokenizer_lib
from dreamgen_jax.stages import artefact, models

ALONE = True  # one host does it


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Joins the parts and writes them, in half precision, into <preset>/."""
  family = registry.find("world_models", config.model.name)
  vae, facts = checkpoint.load(inputs["vae"] / "checkpoint")
  last = inputs.get("finish", inputs["world_model"])
  params, _ = checkpoint.load(last / "checkpoint")
  model = family.RECIPE.normalised(
      models.build("world_models", config.model),
      facts["latents_mean"], facts["latents_std"])
  params |= {"vae": vae}
  target = folder / config.model.preset
  family.save(target, model, params, family.RECIPE.tokenizer(
      tokenizer_lib.load(str(last / "tokenizer.json"))))
  (target / "README.md").write_text(_card(config, inputs, model, params))
  size = sum(file.stat().st_size for file in target.rglob("*")
             if file.is_file())
  return {"bytes": size}


_CARD = """# {preset}: a world model for the simulated tabletop

The classes of {about} at nano size, trained from nothing.
{parameters}
It turns a first frame ({height}x{width}) and an instruction into {frames}
frames at {hz:g} Hz.

- Data: {clips} of {robots},
  doing {verbs} verbs in {scenes} rooms; video and caption, no actions. The
  Franka Panda and the room `wood`, which the quickstart uses, are in none.
- Autoencoder: {vae_steps} steps of {vae_batch} clips, {vae_seconds:.0f} s;
  PSNR on held-out clips {psnr:.2f} dB.
{courses}
- Date: {date}. Machine: {machine}.
- Rebuild: `python -m dreamgen_jax.main --config=configs/nano_pretrain.py
  --config.world_model={choice} --workdir=runs/{choice}`, then copy
  `export/{preset}` here.

Limits: it knows these verbs, colours and words only, and says so when a prompt
has others. It was made to show the road, not to be a good video model.
"""

_COURSE = """- Transformer and text encoders{again}: {steps} steps of {batch}
  clips, {seconds:.0f} s; velocity error on held-out clips {error:.4f}."""


def _card(config: Any, inputs: dict[str, pathlib.Path], model: Any,
          params: Any) -> str:
  """The model card, with the numbers of the stages that made the parts."""
  records = {name: artefact.read_json(path / artefact.DONE)
             for name, path in inputs.items()}
  corpus, c = config.corpus, model.config
  name, preset = config.model.name, config.model.preset
  vae_train = records["vae"]["config"]["train"]
  clips = {corpus: count for latents in ("latents", "latents_narrow")
           if latents in records for corpus, count in
           records[latents]["metrics"]["clips"].items() if corpus != "heldout"}
  courses = [
      _COURSE.format(
          again=again, steps=records[stage]["config"]["train"]["steps"],
          batch=records[stage]["config"]["train"]["batch_size"],
          seconds=records[stage]["seconds"],
          error=records[stage]["metrics"]["heldout_error"])
      for stage, again in (("world_model", ""), ("finish", ", going on"))
      if stage in records]
  return _CARD.format(
      preset=preset,
      choice=preset if preset.startswith(name) else f"{name}_{preset}",
      about=registry.find("world_models", name).__doc__.strip().rstrip("."),
      parameters="Parameters: " + ", ".join(
          f"{part} {sum(leaf.size for leaf in jax.tree.leaves(tree)):,}"
          for part, tree in params.items()) + ".",
      height=c.height, width=c.width, frames=c.frames, hz=c.video_hz,
      clips=", ".join(f"{count} clips ({name})"
                      for name, count in clips.items()),
      robots=", ".join(corpus.robots), verbs=len(corpus.verbs),
      scenes=len(corpus.scenes), vae_steps=vae_train["steps"],
      vae_batch=vae_train["batch_size"],
      vae_seconds=records["vae"]["seconds"],
      psnr=records["vae"]["metrics"]["heldout_psnr"],
      courses="\n".join(courses),
      date=datetime.date.today().isoformat(), machine=runtime.machine())
