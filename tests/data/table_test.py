"""Tests of what is held of millions of episodes."""

import numpy as np
import pytest

from dreamgen_jax.data import table


@pytest.mark.parametrize("stride", [1, 3])
def test_starts_are_those_of_a_table_made_row_by_row(stride):
  last = np.array([4, -1, 0, 7, -5, 2])
  wanted = np.array([[i, start] for i, end in enumerate(last)
                     for start in range(0, end + 1, stride)])
  found = table.Starts(last, stride)
  assert len(found) == len(wanted) and found.tolist() == wanted.tolist()
  for i in (0, 3, len(wanted) - 1, -1, np.int64(2)):
    assert found[i].tolist() == wanted[i].tolist()
  rows = np.array([2, 0, 3])
  np.testing.assert_array_equal(found[rows], wanted[rows])
  np.testing.assert_array_equal(found[:2], wanted[:2])
  np.testing.assert_array_equal(found[:, 1], wanted[:, 1])
  few = found[:, 0] == 3
  np.testing.assert_array_equal(found[few, 1], wanted[few, 1])
  with pytest.raises(IndexError):
    found[len(wanted)]
  assert [row.tolist() for row in found] == wanted.tolist()


def test_names_are_kept_as_bytes():
  texts = np.array(["panda-0", "größer", "x"])
  names = table.Names(table.encode(texts))
  assert list(names) == texts.tolist() == names and len(names) == 3
  assert names[1] == "größer" and names[1:] == ["größer", "x"]
  assert names.index("x") == 2 and "x" in names and "y" not in names
  with pytest.raises(ValueError):
    names.index("y")


def test_what_is_the_same_for_all_takes_nothing():
  found = table.compact({
      "id": np.array(["a", "b"]), "steps": np.array([3, 4]),
      "kept": np.array([True, True]), "kind": np.array(["sim", "sim"])})
  assert found["steps"].dtype == np.int32 and found["id"].dtype == "S1"
  assert found["kept"].strides == found["kind"].strides == (0,)
  assert found["kind"][1] == b"sim" and found["kept"].all()
  again = table.compact(found)
  assert all((again[name] == found[name]).all() for name in found)
