"""Outputs of the original implementations: where they lie, which there are.

Each case is a folder with config.json and safetensors files. The repository's
own are in tests/goldens (see its README.md); DREAMGEN_GOLDENS names further
folders of cases, else two beside the repository are looked into. A family's
tests run for every case of it in all folders, whatever its sizes.
"""

import functools
import json
import os
import pathlib

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


def folders():
  """Where cases may lie, ours first."""
  named = os.environ.get("DREAMGEN_GOLDENS")
  shared = ROOT.parent / "shared"
  others = named.split(os.pathsep) if named else [
      shared / "golden", shared / "golden_policies"]
  return [ROOT / "tests" / "goldens", *map(pathlib.Path, others)]


def cases(*families):
  """Parameters for `golden`: every case of the families, by its path.

  A family is the beginning of folder names ("wan_i2v": wan_i2v, wan_i2v_b), or
  a class that config.json names, for cases with weights of their own. No case
  at all is one parameter that skips and says so.
  """
  paths = [path for path, config in found().items()
           if any(_belongs(path, config, family) for family in families)]
  if paths:
    return [pytest.param(path, id=path.name) for path in paths]
  return [pytest.param(None, id="absent", marks=pytest.mark.skip(reason=(
      f"no golden case of {' or '.join(families)} is on this machine; set "
      "DREAMGEN_GOLDENS to a folder that holds one")))]


def sampler_runs(*classes, karras=False):
  """Parameters (case, name) of the sampler runs by these scheduler classes.

  Those on Karras's noise levels are for `karras` alone.
  """
  runs = []
  for case in cases("schedulers"):
    if case.marks:
      return [pytest.param(None, None, id=case.id, marks=case.marks)]
    path, = case.values
    runs += [pytest.param(path, name, id=f"{case.id}-{name}")
             for name, entry in found()[path]["schedulers"].items()
             if entry.get("class") in classes and karras == bool(
                 entry["config"].get("use_karras_sigmas"))]
  return runs


def load(case):
  """(config, {file stem: {name: array}}) of a case; skips if it is absent.

  `case` is a path from `cases`, or the name of one folder. Numbers that are
  stored in half precision are widened.
  """
  from dreamgen_jax import safetensors

  for folder in folders():
    path = folder / case
    if path.is_dir():
      files = {
          file.stem: {name: _widened(np.asarray(array))
                      for name, array in safetensors.read(file).items()}
          for file in sorted(path.glob("*.safetensors"))}
      return json.loads((path / "config.json").read_text()), files
  pytest.skip(f"golden case {case!r} is not on this machine; set "
              "DREAMGEN_GOLDENS to the folder that holds it")


@functools.cache
def found():
  """Folder -> config.json of every case on this machine."""
  return {file.parent: json.loads(file.read_text())
          for folder in folders()
          for file in sorted(folder.glob("*/config.json"))}


def _belongs(path, config, family):
  if path.name == family or path.name.startswith(f"{family}_"):
    return True
  return config.get("class") == family and (
      path / "weights.safetensors").is_file()


def _widened(array):
  return array.astype(np.float32) if array.dtype == np.float16 else array
