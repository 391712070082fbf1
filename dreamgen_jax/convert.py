"""Writes a released checkpoint anew: other names, dtype, or layout.

  python -m dreamgen_jax.convert --family=wan --preset=NAME --source=DIR
      --output=DIR [--dialect=diffusers|original] [--dtype=bfloat16]
      [--parts=transformer,vae] [--debug]
  python -m dreamgen_jax.convert --lora=runs/NAME/finetune --output=FILE
      [--dialect=diffusers|comfyui|musubi|original] [--dtype=bfloat16]
      [--parts=transformer_2]
  python -m dreamgen_jax.convert --tuned=runs/NAME/finetune --output=DIR
      [--dialect=diffusers|original] [--dtype=bfloat16] [--parts=transformer]

Reads folders in the Diffusers layout and in the authors' own, safetensors and
torch files (`--source` may be one .pt file, with --parts), and writes a folder
in the Diffusers layout. Tensors go from file to file, one at a time.

With --lora: writes an adapter, which is what the stage `finetune` trained, or a
file in any dialect (then --family and --preset say which model it is for).
With --tuned: writes the world model that the stage `finetune` tuned, its
adapters merged into the base, or its whole transformers in place of them.
"""

import pathlib
import sys
from typing import Any

from dreamgen_jax import errors, options, registry
from dreamgen_jax.stages import models

HELP = {
    "family": "package of the model, e.g. wan",
    "preset": "its size, as the family's PRESETS name it",
    "source": "the checkpoint's folder, or the file of one part",
    "output": "folder to write; must not exist yet, or be empty; with --lora "
              "a .safetensors file",
    "dialect": "tensor names: diffusers (default) or original; of adapters "
               "also comfyui or musubi",
    "dtype": "of the files, e.g. bfloat16; default: as they are",
    "parts": "which parts, by commas; default: all",
    "lora": "an adapter: a finetune stage's folder, or a file",
    "tuned": "a finetune stage's folder, to write its model whole",
}
NEEDED = ("family", "preset", "source", "output")
DTYPES = ("bfloat16", "float16", "float32")


@options.program(__doc__, HELP)
def main(given: Any) -> None:
  """Runs the program."""
  if given.lora and given.tuned:
    raise errors.ConfigError("Give --lora or --tuned, not both.")
  for name in ("output",) if given.lora or given.tuned else NEEDED:
    options.need(given, name)
  if given.dtype and given.dtype not in DTYPES:
    raise errors.ConfigError(
        f"Unknown dtype {given.dtype!r}; have: {', '.join(DTYPES)}.")
  if given.lora or given.tuned:
    (_adapter if given.lora else _tuned)(given)
    return
  module = registry.find("world_models", given.family)
  model = models.build(
      "world_models", {"name": given.family, "preset": given.preset})
  size = module.convert(
      given.source, pathlib.Path(given.output), model.config,
      given.parts and given.parts.split(","), given.dialect or "diffusers",
      given.dtype)
  print(f"Wrote {size / 1e9:.2f} GB to {given.output}.")


def _adapter(given: Any) -> None:
  from dreamgen_jax.stages import world_model  # brings JAX

  output = pathlib.Path(given.output)
  if output.exists() or output.suffix != ".safetensors":
    raise errors.ConfigError(
        f"An adapter becomes a new .safetensors file; {output} is none.")
  size = world_model.write_adapter(
      given.lora, str(output), given.family, given.preset, given.dialect,
      given.parts, given.dtype)
  print(f"Wrote {size / 1e6:.2f} MB to {output}.")


def _tuned(given: Any) -> None:
  import ml_dtypes  # noqa: F401  lets numpy know bfloat16
  import numpy as np

  from dreamgen_jax.stages import world_model  # brings JAX

  output = pathlib.Path(given.output)
  if output.exists() and any(output.iterdir()):
    raise errors.ConfigError(f"{output} is not empty; name a new folder.")
  loaded = world_model.load_tuned(pathlib.Path(given.tuned))
  wanted = given.parts.split(",") if given.parts else list(loaded.params)
  for part in wanted:
    if part not in loaded.params:
      raise errors.ConfigError(
          f"The model has no part {part!r}; have: {', '.join(loaded.params)}."
          + registry.nearest(part, list(loaded.params)))
  family = type(loaded.model).__module__.split(".")[-2]
  registry.find("world_models", family).save(
      output, loaded.model, {part: loaded.params[part] for part in wanted},
      loaded.tokenizer, np.dtype(given.dtype) if given.dtype else None,
      given.dialect or "diffusers")
  print(f"Wrote {', '.join(wanted)} to {output}.")


if __name__ == "__main__":
  sys.exit(main())
