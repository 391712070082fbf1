"""Checkpoints: what is saved comes back, what is damaged says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import checkpoint, errors

TREE = {"a": {"kernel": np.arange(6.0, dtype=np.float32).reshape(2, 3)},
        "n": np.array(4, np.int32)}


def test_save_and_load(tmp_path):
  checkpoint.save(tmp_path / "c", TREE, {"why": [1, "x"]})
  tree, meta = checkpoint.load(tmp_path / "c")
  jax.tree.map(np.testing.assert_array_equal, tree, TREE)
  assert meta == {"why": [1, "x"]}


def test_load_into_other_dtype(tmp_path):
  checkpoint.save(tmp_path / "c", TREE, {})
  target = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(np.shape(x), jnp.bfloat16), TREE)
  tree, _ = checkpoint.load(tmp_path / "c", target)
  assert tree["a"]["kernel"].dtype == jnp.bfloat16


def test_missing(tmp_path):
  with pytest.raises(errors.CheckpointError, match="No checkpoint at"):
    checkpoint.load(tmp_path / "none")


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's own tasks
def test_damaged(tmp_path):
  checkpoint.save(tmp_path / "c", TREE, {})
  for file in (tmp_path / "c").rglob("*"):
    if file.is_file() and file.parent.name == "d":
      file.write_bytes(b"damage")
  with pytest.raises(errors.CheckpointError, match="cannot be read"):
    checkpoint.load(tmp_path / "c")


def test_other_shape_is_named(tmp_path):
  checkpoint.save(tmp_path / "c", TREE, {})
  target = {"a": {"kernel": jax.ShapeDtypeStruct((2, 4), jnp.float32)},
            "n": jax.ShapeDtypeStruct((), jnp.int32)}
  with pytest.raises(errors.CheckpointError, match=r"a/kernel is \(2, 3\)"):
    checkpoint.load(tmp_path / "c", target)


def test_series_keeps_the_last(tmp_path):
  with checkpoint.Series(tmp_path / "s") as series:
    assert series.latest is None
    for step in (1, 2):
      series.save(step, {"x": jnp.full(2, step)}, {"data": step})
  with checkpoint.Series(tmp_path / "s") as series:
    assert series.latest == 2
    state, meta = series.restore(2, {"x": jnp.zeros(2, jnp.int32)})
  assert state["x"].tolist() == [2, 2]
  assert meta == {"data": 2}
