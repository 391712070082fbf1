"""Image to video as diffusers' pipelines do it, call by call."""

import jax
import numpy as np
import pytest
from einops import rearrange

from dreamgen_jax import weights
from dreamgen_jax.encoders import t5
from dreamgen_jax.world_models.cogvideox import dit, model, presets, vae
from dreamgen_jax.world_models.cogvideox import weights as names
from tests import golden_cases
from tests.parity import cogvideox_transformer_test as transformer_test
from tests.parity import cogvideox_vae_test as vae_test


def _last(x):
  return rearrange(x, "b t c h w -> b t h w c")


def _model(kwargs, files):
  """The model at the case's size, and its parameters."""
  call = kwargs["call"]
  transformer = transformer_test.config_of(kwargs["transformer"])
  text = t5.Config(8, transformer.text_dim, 1, 8, 8, 1)  # not run here
  found = model.Model(model.Config(
      transformer, vae_test.config_of(kwargs["vae"]), text,
      frames=call["num_frames"], height=call["height"], width=call["width"],
      video_hz=8.0, steps=call["num_inference_steps"],
      guidance=call["guidance_scale"],
      dynamic_guidance=call["use_dynamic_cfg"]))
  target = jax.eval_shape(found.init, jax.random.key(0))
  tables = names.parts(found.config)
  params = {part: weights.load(
      {name.removeprefix(f"{part}/"): tensor
       for name, tensor in files["weights"].items()
       if name.startswith(f"{part}/")}, tables[part], target[part])
      for part in ("transformer", "vae")}
  return found, params


@pytest.mark.parametrize("case", ["pipe_cogvideox_i2v", "pipe_cogvideox15_i2v"])
def test_description_in_the_released_words(golden, case):
  kwargs, files = golden(case)
  described = presets.describe(_model(kwargs, files)[0].config)
  for part in ("transformer", "vae"):
    both = described[part].keys() & kwargs[part].keys()
    assert len(both) >= 8
    assert {key: described[part][key] for key in both} == {
        key: kwargs[part][key] for key in both}


@pytest.mark.parametrize("case", golden_cases.cases(
    "pipe_cogvideox_i2v", "pipe_cogvideox15_i2v"))
def test_image_to_video(golden, case, monkeypatch):
  kwargs, files = golden(case)
  cog, params = _model(kwargs, files)
  latents = 1 + (cog.config.frames - 1) // 4
  front = -latents % cog.config.transformer.patch[0]
  assert cog.config.front == front
  inputs, outputs = files["inputs"], files["outputs"]
  calls, run = [], dit.Transformer.__call__

  def recorded(self, latent, time, text, memory):
    jax.debug.callback(lambda *seen: calls.append(seen), latent, time,
                       ordered=True)
    return run(self, latent, time, text, memory)

  monkeypatch.setattr(dit.Transformer, "__call__", recorded)

  @jax.jit
  def pipeline(params, frame, noise):
    given = cog.encode_frame(params, frame)
    latent = cog.denoise(
        params, noise, given, {"text": inputs["prompt_embeds"]},
        {"text": inputs["negative_prompt_embeds"]}, draw=None)
    scale = cog.config.vae.scale
    video = vae.decode(cog.config.vae, params["vae"], latent / scale)
    return latent, video, cog.decode(params, latent)

  frame = rearrange(inputs["image"], "b c h w -> b h w c") * 2 - 1
  latent, video, pixels = pipeline(params, frame, _last(inputs["latents"]))
  jax.effects_barrier()

  assert len(calls) == kwargs["n_model_calls"]
  for step, (joined, time) in enumerate(calls):
    # The branches go as a batch, here the prompt's first.
    np.testing.assert_array_equal(time, outputs[f"call{step}/timestep"])
    np.testing.assert_allclose(
        joined[::-1], _last(outputs[f"call{step}/hidden_states"]), atol=1e-4)
  np.testing.assert_allclose(
      latent, _last(outputs["latents"])[:, front:], atol=1e-4)
  expected = rearrange(outputs["video"], "b f c h w -> b f h w c")
  np.testing.assert_allclose(
      np.clip((video + 1) / 2, 0, 1), expected, atol=1e-4)
  assert np.abs(pixels - 255 * expected).max() < 0.6
