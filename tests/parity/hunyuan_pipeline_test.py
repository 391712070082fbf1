"""Image to video as diffusers' pipelines do it, call by call."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from dreamgen_jax import weights
from dreamgen_jax.world_models import hunyuan
from dreamgen_jax.world_models.hunyuan import dit, presets, vae, vae_weights
from dreamgen_jax.world_models.hunyuan import weights as names
from tests import golden_cases


def _last(x):
  return rearrange(x, "b c t h w -> b t h w c")


def _part(files, part):
  return {name.removeprefix(f"{part}/"): tensor
          for name, tensor in files["weights"].items()
          if name.startswith(f"{part}/")}


def _model(kwargs):
  """A model with the case's transformer, autoencoder and clip."""
  t, v, call = kwargs["transformer"], kwargs["vae"], kwargs["call"]
  width = t["num_attention_heads"] * t["attention_head_dim"]
  transformer = dit.Config(
      width=width, heads=t["num_attention_heads"],
      ffn=int(t["mlp_ratio"] * width), dual_layers=t["num_layers"],
      single_layers=t["num_single_layers"],
      refiner_layers=t["num_refiner_layers"], in_channels=t["in_channels"],
      out_channels=t["out_channels"], text_dim=t["text_embed_dim"],
      pooled_dim=t["pooled_projection_dim"], rotary=tuple(t["rope_axes_dim"]),
      guidance=t["guidance_embeds"], image=t["image_condition_type"])
  nano = hunyuan.PRESETS["nano"]
  language = dataclasses.replace(
      nano.text.language, width=transformer.text_dim)
  dropped = 4 if transformer.image == dit.CONCAT else 0
  return hunyuan.Model(dataclasses.replace(
      nano, transformer=transformer,
      vae=vae.Config(
          z_dim=v["latent_channels"], widths=tuple(v["block_out_channels"]),
          num_res_blocks=v["layers_per_block"], groups=v["norm_num_groups"],
          scale=v["scaling_factor"]),
      text=dataclasses.replace(nano.text, language=language),
      text_2=dataclasses.replace(nano.text_2, width=transformer.pooled_dim),
      frames=call["num_frames"] - dropped, height=call["height"],
      width=call["width"], shift=kwargs["scheduler"]["shift"]))


@pytest.mark.parametrize("case", golden_cases.cases(
    "pipe_hunyuan_concat", "pipe_hunyuan_token_replace"))
def test_image_to_video(golden, case, monkeypatch):
  kwargs, files = golden(case)
  inputs, outputs, call = files["inputs"], files["outputs"], kwargs["call"]
  model = _model(kwargs)
  # A guidance scale is embedded as up to 6000, of which float32 keeps 4 digits.
  tolerance = 2e-4 if model.config.transformer.guidance else 1e-4
  for part, facts in presets.describe(model.config).items():
    for name, value in kwargs.get(part, {}).items():
      assert facts[name] == value, (part, name)
  c, noise = model.config, _last(inputs["latents"])
  text = {"text": inputs["prompt_embeds"],
          "text_mask": inputs["prompt_attention_mask"].astype(bool),
          "text_pooled": inputs["pooled_prompt_embeds"]}
  given = np.zeros((1, 1, *noise.shape[2:]), np.float32)
  shapes = jax.eval_shape(
      dit.Transformer(c.transformer).init, jax.random.key(0),
      *model._inputs(jnp.asarray(noise), jnp.zeros(1),
                     {"condition": given, **text}, 1.0))
  params = {
      "transformer": weights.load(
          _part(files, "transformer"), names.NAMES["diffusers"],
          shapes["params"]),
      "vae": weights.load(
          _part(files, "vae"), vae_weights.NAMES["diffusers"],
          jax.eval_shape(lambda key: vae.init(c.vae, key),
                         jax.random.key(0))),
  }
  calls = []
  network = dit.Transformer.apply

  def watched(self, variables, latent, time, *rest, **kw):
    jax.debug.callback(lambda *seen: calls.append(seen), latent, time,
                       ordered=True)
    return network(self, variables, latent, time, *rest, **kw)

  monkeypatch.setattr(dit.Transformer, "apply", watched)

  @jax.jit
  def pipeline(params, frame, noise):
    condition = {"condition": model._encode(params, frame * 2 - 1)}
    guidance = call["guidance_scale"] if c.transformer.guidance else (
        call["true_cfg_scale"])
    latent = model.denoise(
        params, noise, condition, text, text, guidance=guidance,
        steps=call["num_inference_steps"])
    video = vae.decode(c.vae, params["vae"], latent / c.vae.scale)
    return latent, video, model.decode(params, latent)

  frame = rearrange(inputs["image"], "b c h w -> b 1 h w c")
  latent, video, pixels = pipeline(params, frame, noise)
  jax.effects_barrier()

  assert len(calls) == kwargs["n_model_calls"]
  for step, (seen, time) in enumerate(calls):
    np.testing.assert_allclose(
        time, outputs[f"call{step}/timestep"], rtol=1e-6)
    np.testing.assert_allclose(
        seen, _last(outputs[f"call{step}/hidden_states"]), atol=tolerance)
  np.testing.assert_allclose(
      latent[:, c.dropped // 4:], _last(outputs["latents"]), atol=tolerance)
  wanted = rearrange(outputs["video"], "b f c h w -> b f h w c")
  np.testing.assert_allclose(
      (video[:, c.dropped:] + 1) / 2, wanted, atol=tolerance)
  assert pixels.shape == (1, c.frames, c.height, c.width, 3)
  assert np.abs(pixels - 255 * wanted).max() < 0.6
