"""Process set-up."""

import os

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import compilation_cache

from dreamgen_jax import runtime, tpu_flags


@pytest.fixture
def cached():
  before = {name: getattr(jax.config, name) for name in (
      "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs",
      "jax_persistent_cache_enable_xla_caches")}
  yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.compilation_cache.reset_cache()


def test_compiled_programs_are_found_where_a_workdir_is_moved(tmp_path, cached):
  names = []
  for folder in (tmp_path / "here", tmp_path / "there"):
    runtime.start(folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.compilation_cache.reset_cache()
    jax.jit(lambda x: jnp.sin(x) + 1).lower(1.0).compile()
    names.append({path.name for path in folder.glob("*-cache")})
  assert names[0] == names[1] != set()


def test_flags_are_added_once_to_what_is_there(monkeypatch):
  monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_mine=1")
  tpu_flags.add()
  tpu_flags.add()
  first, *others = os.environ["LIBTPU_INIT_ARGS"].split()
  assert first.startswith("--xla_jf_") and others == ["--xla_mine=1"]
