"""Fixtures shared by all tests."""

import os

import pytest

from tests import golden_cases

# Before anything imports jax or mujoco.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")
# Most of a test is compilation; unoptimised programs compile twice as fast.
os.environ["XLA_FLAGS"] = " ".join((
    os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true")).strip()


@pytest.fixture
def golden():
  """golden(case) -> (config, {file stem: {name: array}}); skips if absent."""
  return golden_cases.load
