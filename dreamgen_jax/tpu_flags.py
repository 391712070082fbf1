"""What every program asks of the TPU's compiler, in runs and in plans alike.

What a generation wants besides stands in launch/libtpu_flags.sh.
"""

import os

# Weights are gathered before a product, not in pieces during it as the compiler
# likes it on few chips: products of pieces lose more time than that hides.
_FLAGS = "--xla_jf_spmd_threshold_for_windowed_einsum_mib=1000000"


def add() -> None:
  """Adds the flags to those of the environment; before devices are used."""
  given = os.environ.get("LIBTPU_INIT_ARGS", "")
  if _FLAGS not in given:
    os.environ["LIBTPU_INIT_ARGS"] = f"{_FLAGS} {given}".strip()
