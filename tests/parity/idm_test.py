"""The inverse dynamics model against GR00T-Dreams' own."""


import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import weights
from dreamgen_jax.encoders import siglip
from dreamgen_jax.labelers.idm import model as idm
from dreamgen_jax.labelers.idm import net
from dreamgen_jax.labelers.idm import weights as idm_weights


@pytest.fixture
def case(golden):
  config, files = golden("idm")
  tensors = files["idm"]
  vision, head = config["siglip"]["vision_config"], config["action_head_cfg"]
  c = idm.Config(
      action_dim=head["action_dim"],
      horizon=head["action_horizon"],
      resizes=(vision["image_size"],),
      vision_width=vision["hidden_size"],
      vision_depth=vision["num_hidden_layers"],
      vision_heads=vision["num_attention_heads"],
      vision_mlp=vision["intermediate_size"],
      patch=vision["patch_size"],
      projector=head["mm_projector_cfg"]["config"]["mm_projector_type"],
      width=head["hidden_size"],
      heads=head["diffusion_model_cfg"]["num_attention_heads"],
      refine_depth=head["vl_self_attention_cfg"]["num_layers"],
      dit_depth=head["diffusion_model_cfg"]["num_layers"],
      tokens=tensors["in/vl_token_ids"].shape[1],
      max_images=head["max_num_views"],
      positions=head["max_seq_len"],
      embodiments=head["max_num_embodiments"],
      sample_steps=head["num_inference_timesteps"],
  )
  model = idm.Model(c)
  released = {name.removeprefix("w/"): tensor
              for name, tensor in tensors.items() if name.startswith("w/")}
  target = jax.eval_shape(model.init, jax.random.key(0))
  params = weights.load(released, idm_weights.names(c), target)
  return model, params, tensors, released


def _pixels(tensors):
  """Four images are two samples of two frames in one view."""
  return jnp.asarray(tensors["in/images"]).transpose(0, 2, 3, 1).reshape(
      2, 2, 1, 64, 64, 3)


def _batch(tensors):
  return {
      "action": jnp.asarray(tensors["in/actions"]),
      "mask": jnp.asarray(tensors["in/actions_mask"]),
      "embodiment": jnp.asarray(tensors["in/embodiment_id"], jnp.int32),
  }


def _close(ours, theirs):
  np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=1e-4)


def test_vision_tower_and_projector(case):
  model, params, tensors, _ = case
  c, encoder = model.config.net, params["encoder"]
  images = _pixels(tensors).reshape(4, 64, 64, 3)
  tokens, _ = jax.jit(siglip.Tower(c.vision).apply)(
      {"params": encoder["vision"]}, images)
  _close(tokens, tensors["out/act_siglip_last_hidden_state"])
  projected = net.Projector(c).apply(
      {"params": encoder["projector"]},
      jnp.asarray(tensors["out/act_vision_projector"]))
  _close(projected, tensors["out/act_mm_projector"])


def test_loss_at_a_given_time_and_noise(case):
  model, params, tensors, _ = case
  t = (0.999 - tensors["in/beta_sample"]) / 0.999
  np.testing.assert_allclose(t, tensors["out/t"], rtol=1e-5)

  @jax.jit
  def error(params, pixels, *rest):
    return model.loss_at(params, model.look(params, pixels), *rest)

  loss = error(params, _pixels(tensors), _batch(tensors),
               jnp.asarray(tensors["in/noise"]), jnp.asarray(t))
  _close(loss, tensors["out/loss"][0])


def test_every_velocity_on_the_way_to_the_action(case):
  model, params, tensors, _ = case
  context = jnp.asarray(tensors["out/act_vl_self_attention"])
  embodiment = _batch(tensors)["embodiment"]
  x = jnp.asarray(tensors["in/noise"])
  steps = model.config.sample_steps
  denoiser = jax.jit(net.Denoiser(model.config.net).apply)
  for i in range(steps):
    velocity = denoiser({"params": params["denoiser"]}, x,
                        jnp.full(2, int(i / steps * 1000)), context,
                        embodiment)
    _close(velocity, tensors[f"out/step{i}_velocity"])
    x = x + velocity / steps


def test_context_with_its_padding_and_sampled_actions(case):
  model, params, tensors, _ = case

  @jax.jit
  def label(params, pixels, noise, embodiment):
    context = model.context(params, model.look(params, pixels))
    return context, model.denoise(params, noise, context, embodiment)

  context, action = label(
      params, _pixels(tensors), jnp.asarray(tensors["in/noise"]),
      _batch(tensors)["embodiment"])
  _close(context, tensors["out/act_vl_self_attention"])
  _close(action, tensors["out/action_pred"])


def test_export_gives_the_released_file_back(case):
  model, params, _, released = case
  exported = weights.export(params, idm_weights.names(model.config))
  assert exported.keys() == released.keys()
  for name, tensor in released.items():
    np.testing.assert_array_equal(exported[name], tensor)
