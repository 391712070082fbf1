"""Tables of names: both ways, and each of the four complaints."""

import types

import ml_dtypes
import numpy as np
import pytest

from dreamgen_jax import errors, lazy, paths, weights

TABLE = [
    weights.Rule("patch.weight", "patch/kernel", weights.patch(1, 2, 2)),
    *weights.dense("blocks.{i}.to_{p:q|k}", "blocks/attn/{p}"),
    *weights.dense("blocks.{i}.to_out.0", "blocks/attn/o"),
    *weights.conv("up.{u}.conv", "up_{u}/conv", weights.conv2d, bias=False),
    weights.Rule("blocks.{i}.table", "blocks/table", weights.squeeze()),
    weights.Rule("shared.weight", "token/embedding"),
    weights.Rule("embed.weight", "token/embedding", spare=True),
    weights.Ignore(r".*position_ids", "a constant that is computed"),
]


def _source():
  rng = np.random.default_rng(0)
  shapes = {"patch.weight": (5, 3, 1, 2, 2), "up.0.conv.weight": (2, 3, 1, 1),
            "up.1.conv.weight": (4, 5, 1, 1), "shared.weight": (6, 2)}
  for i in range(2):
    shapes |= {f"blocks.{i}.to_q.weight": (3, 4), f"blocks.{i}.to_q.bias": (3,),
               f"blocks.{i}.to_k.weight": (2, 4), f"blocks.{i}.to_k.bias": (2,),
               f"blocks.{i}.to_out.0.weight": (4, 5),
               f"blocks.{i}.to_out.0.bias": (4,),
               f"blocks.{i}.table": (1, 6, 4)}
  return {name: rng.standard_normal(shape).astype(np.float32)
          for name, shape in shapes.items()}


def _target(dtype=np.float32):
  shapes = {
      "patch/kernel": (12, 5), "blocks/attn/q/kernel": (2, 4, 3),
      "blocks/attn/q/bias": (2, 3), "blocks/attn/k/kernel": (2, 4, 2),
      "blocks/attn/k/bias": (2, 2),
      "blocks/attn/o/kernel": (2, 5, 4), "blocks/attn/o/bias": (2, 4),
      "blocks/table": (2, 6, 4),
      "up_0/conv/kernel": (1, 1, 3, 2), "up_1/conv/kernel": (1, 1, 5, 4),
      "token/embedding": (6, 2)}
  return paths.unflatten({
      path: types.SimpleNamespace(shape=shape, dtype=np.dtype(dtype))
      for path, shape in shapes.items()})


def test_load_places_layers_and_layouts():
  source = _source()
  params = weights.load(source, TABLE, _target())
  np.testing.assert_array_equal(
      params["blocks"]["attn"]["k"]["kernel"][1],
      source["blocks.1.to_k.weight"].T)
  np.testing.assert_array_equal(
      params["blocks"]["table"][1], source["blocks.1.table"][0])
  # channels are last within a patch
  np.testing.assert_array_equal(
      params["patch"]["kernel"][3 * 2:3 * 3],
      source["patch.weight"][:, :, 0, 1, 0].T)


def test_export_is_the_inverse():
  source = _source()
  back = weights.export(weights.load(source, TABLE, _target()), TABLE)
  assert back.keys() == source.keys()
  for name, tensor in source.items():
    np.testing.assert_array_equal(back[name], tensor)


def test_load_casts_to_the_target():
  params = weights.load(_source(), TABLE, _target(ml_dtypes.bfloat16))
  assert params["blocks"]["table"].dtype == ml_dtypes.bfloat16


def test_spare_and_ignored_names():
  source = _source()
  other = source["shared.weight"] + 1
  for both in ({"embed.weight": other, **source},
               {**source, "embed.weight": other, "x.position_ids": other}):
    params = weights.load(both, TABLE, _target())
    np.testing.assert_array_equal(
        params["token"]["embedding"], source["shared.weight"])
  del source["shared.weight"]
  source["embed.weight"] = other
  params = weights.load(source, TABLE, _target())
  np.testing.assert_array_equal(params["token"]["embedding"], other)


def test_one_error_has_all_four_lists():
  source = _source()
  source["blocks.0.to_v.weight"] = source.pop("blocks.0.to_q.weight")
  source["patch.weight"] = np.zeros((5, 3, 2, 2, 1), np.float32)
  source["blocks.00.table"] = source["blocks.0.table"]
  with pytest.raises(errors.CheckpointError) as error:
    weights.load(source, TABLE, _target())
  text = str(error.value)
  assert "1 tensors without a place: blocks.0.to_v.weight" in text
  assert "1 parameters without a tensor: blocks/attn/q/kernel[0]" in text
  assert ("1 matched twice: blocks/table[0] <- blocks.0.table and "
          "blocks.00.table") in text
  assert "1 of wrong shape: patch.weight (5, 3, 2, 2, 1)" in text


def test_too_many_layers_is_a_wrong_shape():
  source = _source() | {"blocks.2.table": np.zeros((1, 6, 4), np.float32)}
  with pytest.raises(errors.CheckpointError, match=r"layer 2 of 2"):
    weights.load(source, TABLE, _target())


def test_a_name_with_two_places_is_an_error():
  table = [*TABLE, weights.Rule("shared.weight", "patch/kernel")]
  with pytest.raises(errors.CheckpointError, match=r"shared\.weight -> token"):
    weights.load(_source(), table, _target())


FUSED = [
    weights.Rule("{i}.qkv.weight", "blocks/q/kernel", weights.linear, of=3),
    weights.Rule("{i}.qkv.weight", "blocks/kv/kernel", weights.linear,
                 pieces=(1, 2), of=3),
    weights.Rule("both.bias", "even", pieces=(0, 2), of=4),
    weights.Rule("both.bias", "odd", pieces=(3, 1), of=4),
]


def _fused():
  rng = np.random.default_rng(0)
  source = {f"{i}.qkv.weight": rng.standard_normal((6, 5)).astype(np.float32)
            for i in range(2)} | {"both.bias": np.arange(8, dtype=np.float32)}
  target = {"blocks/q/kernel": (2, 5, 2), "blocks/kv/kernel": (2, 5, 4),
            "even": (4,), "odd": (4,)}
  return source, paths.unflatten({
      path: types.SimpleNamespace(shape=shape, dtype=np.dtype(np.float32))
      for path, shape in target.items()})


def test_pieces_of_one_tensor():
  source, target = _fused()
  params = weights.load(source, FUSED, target)
  np.testing.assert_array_equal(
      params["blocks"]["kv"]["kernel"][1], source["1.qkv.weight"][2:].T)
  np.testing.assert_array_equal(params["even"], [0, 1, 4, 5])
  np.testing.assert_array_equal(params["odd"], [6, 7, 2, 3])
  for tree in (params, weights.match(source, FUSED, target)):
    back = weights.export(tree, FUSED)
    assert back.keys() == source.keys()
    for name, tensor in source.items():
      np.testing.assert_array_equal(back[name], tensor)


def test_a_piece_without_a_place_is_an_error():
  source, target = _fused()
  params = weights.load(source, FUSED, target)
  del target["odd"], params["odd"]
  with pytest.raises(errors.CheckpointError, match="piece has no place: both"):
    weights.load(source, FUSED, target)
  with pytest.raises(errors.CheckpointError, match="piece is missing: both"):
    weights.export(params, FUSED)
  with pytest.raises(errors.CheckpointError, match="of wrong shape: 1.qkv"):
    weights.load(_fused()[0] | {"1.qkv.weight": np.zeros((5, 5))}, FUSED,
                 _fused()[1])


def test_match_reads_what_a_device_holds():
  """Views of the file, until a part is read, cast."""
  source = _source()
  kernel = weights.match(source, TABLE, _target(ml_dtypes.bfloat16))[
      "blocks"]["attn"]["k"]["kernel"]
  assert np.shares_memory(kernel.source(1), source["blocks.1.to_k.weight"])
  part = kernel.read((slice(1, 2), slice(None), slice(1, 2)))
  assert part.dtype == ml_dtypes.bfloat16 and part.shape == (1, 4, 1)
  np.testing.assert_array_equal(
      part[0, :, 0],
      source["blocks.1.to_k.weight"][1].astype(ml_dtypes.bfloat16))


def test_export_of_what_is_in_files_reads_nothing_and_keeps_dtypes():
  source = _source()
  source["blocks.0.table"] = source["blocks.0.table"].astype(np.float16)
  back = weights.export(weights.match(source, TABLE, _target()), TABLE)
  for name, tensor in source.items():
    assert isinstance(back[name], lazy.Array)
    assert back[name].dtype == tensor.dtype
    assert back[name].shape == tensor.shape
    np.testing.assert_array_equal(back[name], tensor)
  assert np.shares_memory(
      back["blocks.0.to_q.weight"].make(), source["blocks.0.to_q.weight"])


def test_export_names_what_it_cannot_name():
  with pytest.raises(errors.CheckpointError, match="without a rule: new/x"):
    weights.export({"new": {"x": np.zeros(1)}}, TABLE)


def test_choose_finds_the_table():
  tables = {"a": [weights.Rule("x.{i}", "x")], "b": TABLE}
  assert weights.choose(_source(), tables) == "b"
  with pytest.raises(errors.CheckpointError, match="known to the tables a, b"):
    weights.choose({"what": 0}, tables)


def test_paths_are_inverse():
  tree = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
  assert paths.flatten(tree) == {"a/b": 1, "a/c/d": 2, "e": 3}
  assert paths.unflatten(paths.flatten(tree)) == tree
