"""pi0 and pi0.5 against openpi's JAX networks; released names and shapes."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from dreamgen_jax import paths, weights
from dreamgen_jax.encoders import gemma, siglip
from dreamgen_jax.layers import pixels
from dreamgen_jax.policies import pi0
from dreamgen_jax.policies.pi0 import nets
from dreamgen_jax.policies.pi0 import weights as names
from tests import golden_cases

VIEWS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")


def parts(files, prefix):
  (tensors,) = files.values()
  return {name.removeprefix(prefix): array for name, array in tensors.items()
          if name.startswith(prefix)}


@pytest.fixture(params=["pi0", "pi05"])
def case(request, golden):
  facts, files = golden(request.param)
  adaptive = request.param == "pi05"
  s = facts["siglip"]
  language, expert = (
      gemma.Config(g["width"], g["depth"], g["mlp_dim"], g["num_heads"],
                   g["num_kv_heads"], g["head_dim"])
      for g in (facts["gemma"]["dummy"], facts["gemma"]["dummy_a"]))
  config = pi0.Config(
      vision=siglip.Config(s["width"], s["depth"], s["num_heads"],
                           s["mlp_dim"], s["patch_size"][0], 28),
      language=language,
      expert=dataclasses.replace(expert, adaptive=adaptive),
      action_dim=facts["action_dim"], state_dim=facts["action_dim"],
      width=facts["action_dim"], cameras=VIEWS, image_size=(28, 28),
      horizon=facts["action_horizon"], vocabulary=facts["vocab"],
      text_length=facts["max_token_len"], steps=facts["num_steps"])
  given = parts(files, "in/")
  batch = {f"image/{view}": given[f"image_{view}"][:, None] for view in VIEWS}
  batch |= {f"image_mask/{view}": given[f"image_mask_{view}"]
            for view in VIEWS}
  batch |= {
      "state": given["state"][:, None],
      "state_mask": np.ones((len(given["state"]), 1), bool),
      "tokens": given["tokenized_prompt"],
      "token_mask": given["tokenized_prompt_mask"],
      "action": given["actions"],
      "mask": np.ones(given["actions"].shape, bool)}
  model = pi0.Model(config)
  released = parts(files, "w/")
  target = jax.eval_shape(model.init, jax.random.key(0))
  params = weights.load(
      names.unstack(released), names.names(config), target)
  return model, params, batch, given, parts(files, "out/"), released


def test_tokens_masks_loss_and_actions(case):
  model, params, batch, given, expected, _ = case
  c = model.config
  tau = expected["time"]
  np.testing.assert_allclose(
      0.001 + 0.999 * given["beta_sample"], tau, atol=1e-7)
  noisy = (tau[:, None, None] * given["noise"]
           + (1 - tau)[:, None, None] * given["actions"])

  @jax.jit
  def run(params, batch):
    prefix, seen = model._prefix(params, batch)
    suffix, condition = model._suffix(params, batch, noisy, tau)
    return {
        "prefix": prefix, "seen": seen, "suffix": suffix,
        "condition": condition,
        "error": model.error_at(params, batch, given["noise"], tau),
        "chunk": model.denoise(params, batch, given["noise"])}

  with jax.default_matmul_precision("highest"):
    found = run(params, batch)
  assert not given["image_mask_right_wrist_0_rgb"].all()  # one is masked
  np.testing.assert_array_equal(found["seen"], expected["prefix_mask"])
  found["error"] = found["error"].mean(-1)
  for ours, theirs, limit in (
      ("prefix", "prefix_tokens", 2e-6), ("suffix", "suffix_tokens", 2e-6),
      ("error", "loss", 1e-5), ("chunk", "actions", 1e-5)):
    largest = np.abs(expected[theirs]).max()
    np.testing.assert_allclose(
        found[ours], expected[theirs], atol=limit * largest)
  if c.expert.adaptive:
    np.testing.assert_allclose(
        found["condition"], expected["adarms_cond"], atol=1e-6)

  blocks = nets.suffix_blocks(c.horizon, c.expert.adaptive)
  starts = np.repeat(np.arange(len(blocks)), blocks)
  np.testing.assert_array_equal(
      np.diff(starts, prepend=-1) > 0, expected["suffix_ar_mask"])
  valid = np.concatenate(
      [expected["prefix_mask"], expected["suffix_mask"]], axis=1)
  np.testing.assert_array_equal(
      gemma.block_mask(valid, [found["seen"].shape[1], *blocks]),
      expected["attn_mask"])


def test_export_gives_the_released_tensors_back(case):
  model, params, *_, released = case
  exported = names.stack(weights.export(params, names.names(model.config)))
  assert exported.keys() == released.keys()
  for name, tensor in released.items():
    np.testing.assert_array_equal(exported[name], tensor)


@pytest.mark.parametrize(
    ("preset", "count"), [("pi0", 3_238_048_528), ("pi05", 3_353_433_872)])
def test_released_names_and_shapes(preset, count):
  target = jax.eval_shape(
      pi0.Model(pi0.PRESETS[preset]).init, jax.random.key(0))
  assert sum(leaf.size for leaf in jax.tree.leaves(target)) == count
  files = [file for folder in golden_cases.folders()
           for file in [folder / "pi0_param_trees.json"] if file.is_file()]
  if not files:
    pytest.skip("pi0_param_trees.json is not on this machine")
  tree = json.loads(files[0].read_text())[preset]
  tensors = names.unstack({
      name: np.broadcast_to(np.float32(0), shape)
      for name, shape in tree.items()})
  found = weights.match(tensors, names.names(pi0.PRESETS[preset]), target)
  assert paths.flatten(found).keys() == paths.flatten(target).keys()


def test_letter_box(golden):
  _, files = golden("image_tools")
  (tensors,) = files.values()
  count = 0
  for name, image in tensors.items():
    if name.startswith("in/f32_"):
      number = name.removeprefix("in/f32_")
      expected = tensors[f"out/jax_f32_{number}"]
      found = pixels.letter_box(image, *expected.shape[-3:-1])
      np.testing.assert_allclose(found, expected, atol=2e-6)
      count += 1
  assert count > 1
