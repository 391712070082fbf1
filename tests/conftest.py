"""Fixtures shared by all tests."""

import json
import os
import pathlib

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Before anything imports jax or mujoco.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")


def _golden_folders() -> list[pathlib.Path]:
  """Where outputs of the original implementations may lie."""
  named = os.environ.get("DREAMGEN_GOLDENS")
  if named:
    return [pathlib.Path(part) for part in named.split(os.pathsep)]
  shared = ROOT.parent / "shared"
  return [ROOT / "tests" / "goldens", shared / "golden",
          shared / "golden_policies"]


@pytest.fixture
def golden():
  """golden(case) -> (config, {file stem: {name: array}}); skips if absent."""

  def load(case: str):
    from dreamgen_jax import safetensors

    for folder in _golden_folders():
      path = folder / case
      if path.is_dir():
        config = json.loads((path / "config.json").read_text())
        files = {
            file.stem: {
                name: np.asarray(array)
                for name, array in safetensors.read(file).items()
            }
            for file in sorted(path.glob("*.safetensors"))
        }
        return config, files
    pytest.skip(f"golden case {case!r} is not on this machine; set "
                "DREAMGEN_GOLDENS to the folder that holds it")

  return load
