"""Plans a stage for a TPU pod, without a TPU.

  python -m dreamgen_jax.plan --config=FILE.py[:arg] --topology=v5p:4x4x4
      [--stage=NAME] [--mesh=fsdp=16,context=4] [--robot=gr1] [--search]
      [--json] [--price=DOLLARS] [--cache=DIR] [--save=FILE]
      [--config.some.key=value]

Compiles the stage's real step with the TPU's own compiler (libtpu, of the
extra `tpu`), which takes minutes of a processor and no TPU, and says: memory
of a chip, seconds of a step, MFU (of useful operations only), what is
exchanged, and the price. --search tries meshes and what the backward pass
keeps, and ranks them. A plan that does not fit says what to change.
"""

import json
import pathlib
import sys
from typing import Any

from dreamgen_jax import errors, options, registry
from dreamgen_jax.plan import chips

HELP = {
    "config": "config file, e.g. configs/finetune_wan2_1_i2v_14b_gr1.py",
    "topology": "TPUs, e.g. v5p:4x4x4, v6e:8x8, 2xv5e:16x16 (two slices)",
    "stage": "stage of the config; may be left out if there is one",
    "mesh": "sizes instead of the config's, e.g. fsdp=16,context=4",
    "robot": "embodiment that a labeler or policy is for, e.g. gr1",
    "search": (False, "try meshes and remat policies, and rank them"),
    "json": (False, "print one JSON object"),
    "price": "dollars of a chip-hour; default: the list price",
    "cache": ("~/.cache/dreamgen_jax/plan", "folder of finished plans"),
    "save": "file for the compiled program",
}


@options.program(__doc__, HELP, ("config", "topology"))
def main(given: Any, overrides: Any) -> None:
  """Runs the program."""
  config = options.load(given.config, overrides)
  known = options.stages(config)
  stage = given.stage or (known[0] if len(known) == 1 else None)
  if stage not in known:
    raise errors.ConfigError(
        f"Name one of the stages of {given.config} by --stage: "
        f"{', '.join(known)}." + registry.nearest(stage or "", known))
  chips.parse(given.topology)  # mistakes show before the compiler starts
  sizes = _sizes(given.mesh)
  chips.prepare()
  from dreamgen_jax.plan import report, search  # late: these start JAX

  on = chips.topology(given.topology)
  price = float(given.price) if given.price else None
  cache = pathlib.Path(given.cache).expanduser() if given.cache else None
  if given.search:
    plans = search.ranked(config[stage], on, sizes, price, cache,
                          given.robot)
    shown: Any = plans
    text = "\n\n".join(map(report.show, plans))
  else:
    shown = report.make(config[stage], on, sizes, price, cache,
                        pathlib.Path(given.save) if given.save else None,
                        given.robot)
    text = report.show(shown)
  if given.json:
    text = json.dumps(shown[0] | {"others": shown[1:]}
                      if isinstance(shown, list) else shown, indent=1)
  print(text, flush=True)


def _sizes(text: str | None) -> dict[str, int] | None:
  if not text:
    return None
  try:
    return {key: int(size) for key, size in (
        part.split("=") for part in text.split(","))}
  except ValueError:
    raise errors.ConfigError(
        f"--mesh={text} is no mesh; write, for example, fsdp=16,context=4."
    ) from None


if __name__ == "__main__":
  sys.exit(main())
