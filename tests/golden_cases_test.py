"""Cases are found by family, wherever they lie, and may be absent."""

import json

import numpy as np
import pytest

from dreamgen_jax import safetensors
from tests import golden_cases


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """A folder of three cases, one of them without weights."""
  monkeypatch.setenv("DREAMGEN_GOLDENS", str(tmp_path))
  golden_cases.found.cache_clear()
  for name, cls, weights in (
      ("red_vae_wide", "Vae", True), ("red_vaes", "Other", True),
      ("blue_lora", "Vae", False)):
    (tmp_path / name).mkdir()
    (tmp_path / name / "config.json").write_text(json.dumps({"class": cls}))
    if weights:
      safetensors.write(tmp_path / name / "weights.safetensors",
                        {"x": np.array([0.5, -3.0], np.float16)})
  yield tmp_path
  golden_cases.found.cache_clear()


def test_families(folder):
  def names(*families):
    return [case.id for case in golden_cases.cases(*families)]

  assert names("red_vae") == ["red_vae_wide"]
  assert names("Vae") == ["red_vae_wide"]
  assert names("blue", "red_vaes") == ["blue_lora", "red_vaes"]
  assert "wan_t2v_b" in names("WanTransformer3DModel")  # the repository's own
  (absent,) = golden_cases.cases("green")
  assert "no golden case of green" in absent.marks[0].kwargs["reason"]


def test_half_precision_is_widened(golden, folder):
  config, files = golden("red_vae_wide")
  assert config == {"class": "Vae"}
  assert files["weights"]["x"].dtype == np.float32
  np.testing.assert_array_equal(files["weights"]["x"], [0.5, -3.0])


def test_ours_are_small():
  files = (golden_cases.ROOT / "tests" / "goldens").rglob("*")
  assert sum(file.stat().st_size for file in files if file.is_file()) < 4e6
