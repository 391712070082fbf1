"""GR00T N1 against NVIDIA's own: the head, the backbone, every name."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from dreamgen_jax import weights
from dreamgen_jax.encoders import llama, siglip
from dreamgen_jax.layers import action_head
from dreamgen_jax.policies import groot_n1
from dreamgen_jax.policies.groot_n1 import backbone, head
from dreamgen_jax.policies.groot_n1 import weights as names
from tests import golden_cases


def _close(ours, theirs, atol=2e-5):
  np.testing.assert_allclose(ours, theirs, atol=atol, rtol=0)


def _released(tensors):
  return {name.removeprefix("w/"): tensor
          for name, tensor in tensors.items() if name.startswith("w/")}


@pytest.fixture(scope="module")
def action():
  config, files = golden_cases.load("n1_head")
  said, tensors = config["action_head_cfg"], files["n1_head"]
  blocks = said["diffusion_model_cfg"]
  c = head.Config(
      state_width=said["max_state_dim"], action_width=said["action_dim"],
      width=said["input_embedding_dim"],
      heads=blocks["num_attention_heads"], depth=blocks["num_layers"],
      dropout=blocks["dropout"], hidden=said["hidden_size"],
      positions=said["max_seq_len"], embodiments=said["max_num_embodiments"])
  step = jnp.zeros(2, jnp.int32)
  target = jax.eval_shape(
      head.Head(c).init, jax.random.key(0), tensors["in/action"], step,
      tensors["in/state"][:, 0], tensors["in/backbone_features"], step)
  released = {f"action_head.{name}": tensor
              for name, tensor in _released(tensors).items()}
  params = weights.load(
      released, action_head.names(), target["params"])
  return c, said, params, tensors, released


def _denoise(action):
  c, _, params, tensors, _ = action

  @jax.jit
  def denoise(noisy, step):
    return head.Head(c).apply(
        {"params": params}, noisy, step,
        jnp.asarray(tensors["in/state"][:, 0]),
        jnp.asarray(tensors["in/backbone_features"]),
        jnp.asarray(tensors["in/embodiment_id"], jnp.int32))

  return denoise


def test_head_states_and_output(action):
  c, _, params, tensors, _ = action
  row = jnp.asarray(tensors["in/embodiment_id"], jnp.int32)
  state = action_head.MlpByEmbodiment(c.width, c.hidden, c.embodiments).apply(
      {"params": params["state_encoder"]}, tensors["in/state"], row)
  _close(state, tensors["out/act_state_encoder"])
  sizes = action_head.Sizes(c.width, c.heads)
  out = jax.jit(action_head.DiT(sizes, c.depth, c.hidden).apply)(
      {"params": params["dit"]}, tensors["out/dit_hidden0"],
      jnp.asarray([250, 750]), tensors["in/backbone_features"])
  # The last bit of torch's exp, in a frequency, is 4e-5 of an angle at 750.
  _close(out, tensors["out/dit_t250_750"], 3e-5)


def test_head_loss_and_every_velocity_on_the_way(action):
  _, said, _, tensors, _ = action
  t = (0.999 - tensors["in/beta_sample"]) / 0.999
  _close(t, tensors["out/t"], 1e-6)
  denoise = _denoise(action)
  loss = action_head.velocity_error(
      denoise, tensors["in/action"], tensors["in/action_mask"] > 0,
      tensors["in/noise"], jnp.asarray(t), said["num_timestep_buckets"])
  _close(loss, tensors["out/loss"][0], 1e-5)
  x, steps = jnp.asarray(tensors["in/noise"]), said["num_inference_timesteps"]
  for i in range(steps):
    velocity = denoise(x, jnp.full(2, int(i / steps * 1000)))
    _close(velocity, tensors[f"out/step{i}_velocity"][:, 1:])
    x = x + velocity / steps
  _close(x, tensors["out/action_pred"], 1e-5)
  sampled = jax.jit(lambda noise: action_head.euler(
      denoise, noise, steps, said["num_timestep_buckets"]))(
          tensors["in/noise"])
  _close(sampled, tensors["out/action_pred"], 1e-5)


def test_the_release_reads_padding_and_a_mask_hides_it(action):
  c, _, params, tensors, _ = action
  mask = tensors["in/backbone_attention_mask"] > 0
  inputs = (tensors["in/noise"], jnp.zeros(2, jnp.int32),
            tensors["in/state"][:, 0])
  row = jnp.asarray(tensors["in/embodiment_id"], jnp.int32)
  run = jax.jit(lambda context, mask: head.Head(c).apply(
      {"params": params}, *inputs, context, row, mask))
  context = tensors["in/backbone_features"]
  other = np.where(mask[..., None], context, 7.0)
  assert not mask.all()
  assert np.abs(run(context, mask) - tensors["out/step0_velocity"][:, 1:]
                ).max() > 1e-3
  np.testing.assert_array_equal(run(context, mask), run(other, mask))


def test_head_export_gives_the_released_file_back(action):
  *_, params, _, released = action
  exported = weights.export(params, action_head.names())
  assert exported.keys() == released.keys()
  for name, tensor in released.items():
    np.testing.assert_array_equal(exported[name], tensor)


@pytest.fixture(scope="module")
def eagle():
  config, files = golden_cases.load("eagle_backbone")
  sees, reads = config["vision_config"], config["llm_config"]
  tensors = files["eagle_backbone"]
  c = backbone.Config(
      vision=siglip.Config(
          sees["hidden_size"], sees["num_hidden_layers"],
          sees["num_attention_heads"], sees["intermediate_size"],
          sees["patch_size"], sees["image_size"]),
      language=llama.Config(
          reads["vocab_size"], reads["hidden_size"],
          reads["num_attention_heads"], reads["num_key_value_heads"],
          reads["hidden_size"] // reads["num_attention_heads"],
          reads["intermediate_size"], config["select_layer"], skip=0,
          theta=reads["rope_theta"], epsilon=reads["rms_norm_eps"]),
      width=config["project_to_dim"], image_token=config["image_token"])
  images = rearrange(tensors["in/pixel_values"], "b c h w -> b 1 h w c")
  tokens = tensors["in/input_ids"].astype(np.int32)
  mask = tensors["in/attention_mask"] > 0
  released = {f"backbone.{name}": tensor
              for name, tensor in _released(tensors).items()}
  target = jax.eval_shape(
      backbone.Backbone(c).init, jax.random.key(0), images[:2], tokens, mask)
  params = weights.load(
      released, backbone.names(c.vision.patch), target["params"])
  return c, params, tensors, released, images, tokens, mask


def test_images_through_tower_and_projector(eagle):
  c, params, tensors, _, images, *_ = eagle

  @jax.jit
  def see(images):
    seen, _ = siglip.Tower(c.vision).apply(
        {"params": params["vision"]}, images)
    return seen, backbone.Projector(c).apply(
        {"params": params["projector"]}, seen)

  seen, projected = see(images[:, 0])
  _close(seen, tensors["out/vit"])
  _close(projected, tensors["out/visual_tokens"])


def test_prompts_with_different_numbers_of_images(eagle):
  c, params, tensors, _, _, tokens, mask = eagle
  counts = (tokens == c.image_token).sum(1)
  states, ends = tensors["out/visual_tokens"].reshape(-1, 32), counts.cumsum()
  given = np.zeros((len(tokens), counts.max(), 32), np.float32)
  for row, (end, count) in enumerate(zip(ends, counts, strict=True)):
    given[row, :count] = states[end - count:end]
  assert counts[0] != counts[1]
  assert not mask.all()
  run = jax.jit(lambda config: llama.Decoder(config).apply(
      {"params": params["language"]}, tokens, mask,
      (tokens == c.image_token, given)), static_argnums=0)
  _, last = run(c.language)
  # Of padding, which flash attention leaves as it is, the case means nothing.
  _close(last[mask], tensors["out/llm_last"][mask])
  _, flash = run(dataclasses.replace(c.language, padding_attends=False))
  _close(flash[mask], tensors["out/llm_last"][mask])
  assert np.abs(flash - last)[~mask].max() > 1e-3


def test_backbone_as_a_whole(eagle):
  c, params, tensors, _, images, tokens, mask = eagle
  count = (tokens == c.image_token).sum(1) // c.image_tokens
  row = int(np.argmax(count))  # the prompt with all its images
  first = int(count[:row].sum())
  views = images[first:first + count[row], 0][None]
  got = jax.jit(backbone.Backbone(c).apply)(
      {"params": params}, views, tokens[row:row + 1], mask[row:row + 1])
  seen = mask[row]
  _close(got[0][seen], tensors["out/backbone_features"][row][seen])


def test_backbone_export_gives_the_released_file_back(eagle):
  c, params, _, released, *_ = eagle
  exported = weights.export(params, backbone.names(c.vision.patch))
  assert exported.keys() == released.keys()
  for name, tensor in released.items():
    np.testing.assert_array_equal(exported[name], tensor)


def test_released_names_and_sizes():
  config = groot_n1.PRESETS["n1_2b"]
  shapes = jax.eval_shape(
      groot_n1.Model(config).init, jax.random.key(0))
  count = {name: sum(leaf.size for leaf in jax.tree.leaves(part))
           for name, part in (shapes["backbone"] | {
               "head": shapes["head"]}).items()}
  assert sum(count.values()) == 2_190_016_752
  assert {name: round(size / 1e6, 1) for name, size in count.items()} == {
      "language": 906.0, "vision": 412.4, "projector": 13.6, "out": 3.1,
      "head": 854.7}
  released = weights.export(shapes, names.names(config))
  for folder in golden_cases.folders():
    path = folder / "groot_state_dict_shapes.json"
    if path.is_file():
      known = json.loads(path.read_text())["n1_action_head"]
      assert {name.removeprefix("action_head."): list(tensor.shape)
              for name, tensor in released.items()
              if name.startswith("action_head.")} == known
      break
  else:
    pytest.skip("groot_state_dict_shapes.json is not on this machine")
  assert released["backbone.model.language_model.model.layers.11.mlp."
                  "gate_proj.weight"].shape == (8192, 2048)
  assert released["backbone.model.vision_model.vision_model.embeddings."
                  "patch_embedding.weight"].shape == (1152, 3, 14, 14)
