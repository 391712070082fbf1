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


def test_a_digest_is_of_the_content_not_of_the_files(tmp_path):
  tree = {"a": np.arange(6, dtype=np.float32).reshape(2, 3),
          "b": jnp.ones((), jnp.bfloat16)}
  found = set()
  for name, facts, add in (("one", {"of": 1}, 0), ("again", {"of": 1}, 0),
                           ("other", {"of": 2}, 0), ("more", {"of": 1}, 1)):
    checkpoint.save(tmp_path / name, tree | {"a": tree["a"] + add}, facts)
    found.add((checkpoint.digest(*checkpoint.load(tmp_path / name)), add,
               facts["of"]))
  assert len(found) == len({digest for digest, *_ in found}) == 3


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


def _series(folder, steps):
  with checkpoint.Series(folder) as series:
    for step in steps:
      series.save(step, {"x": jnp.full(2, step)}, {"data": step})


TARGET = {"x": jnp.zeros(2, jnp.int32)}


def test_series_keeps_the_last_two(tmp_path):
  with checkpoint.Series(tmp_path / "s") as series:
    assert series.latest is None
    assert series.restore(TARGET) is None
  _series(tmp_path / "s", (1, 2, 3))
  with checkpoint.Series(tmp_path / "s") as series:
    assert series.latest == 3
    step, state, meta = series.restore(TARGET)
  assert (step, state["x"].tolist(), meta) == (3, [3, 3], {"data": 3})
  kept = [path.name for path in (tmp_path / "s").iterdir()]
  assert sorted(kept) == ["2", "3"]


def _damage(folder):
  for file in folder.rglob("*"):
    if file.is_file() and file.parent.name == "d":
      file.write_bytes(b"damage")


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's own tasks
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(
    tmp_path, capsys):
  folder = tmp_path / "s"
  _series(folder, (1, 2))
  _damage(folder / "2")
  with checkpoint.Series(folder) as series:
    step, state, meta = series.restore(TARGET)
    assert (step, state["x"].tolist(), meta) == (1, [1, 1], {"data": 1})
    said = capsys.readouterr().out
    assert "Checkpoint 2 in" in said and "and 1 is taken instead" in said
    series.save(2, {"x": jnp.full(2, 7)}, {"data": 7})
  assert (folder / "damaged-2").is_dir()
  with checkpoint.Series(folder) as series:
    assert series.restore(TARGET)[2] == {"data": 7}
  _damage(folder / "1")
  _damage(folder / "2")
  with checkpoint.Series(folder) as series, pytest.raises(
      errors.CheckpointError, match="no good one before it"):
    series.restore(TARGET)
