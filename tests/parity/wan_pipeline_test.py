"""Image to video as diffusers' pipeline does it, call by call."""

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange

from dreamgen_jax import weights
from dreamgen_jax.diffusion import guide, sample
from dreamgen_jax.world_models.wan import (
    condition,
    dit,
    vae,
    vae_weights,
)
from dreamgen_jax.world_models.wan import weights as names


def _last(x):
  return rearrange(x, "b c t h w -> b t h w c")


def _part(files, part):
  return {name.removeprefix(f"{part}/"): tensor
          for name, tensor in files["weights"].items()
          if name.startswith(f"{part}/")}


def _network(kwargs, files):
  """(vae config, vae parameters, transformer, its parameters)."""
  sizes = kwargs["vae"]
  vae_config = vae.VaeConfig(
      base_dim=sizes["base_dim"], z_dim=sizes["z_dim"],
      dim_mult=tuple(sizes["dim_mult"]),
      num_res_blocks=sizes["num_res_blocks"],
      temporal_downsample=tuple(sizes["temperal_downsample"]))
  target = jax.eval_shape(
      lambda key: vae.init(vae_config, key), jax.random.key(0))
  vae_params = weights.load(
      _part(files, "vae"), vae_weights.NAMES["diffusers"], target)

  sizes = kwargs["transformer"]
  heads = sizes["num_attention_heads"]
  model = dit.Transformer(dit.Config(
      width=heads * sizes["attention_head_dim"], heads=heads,
      layers=sizes["num_layers"], ffn=sizes["ffn_dim"],
      in_channels=sizes["in_channels"], out_channels=sizes["out_channels"],
      text_dim=sizes["text_dim"], freq_dim=sizes["freq_dim"],
      image_dim=sizes["image_dim"], epsilon=sizes["eps"]))
  inputs = files["inputs"]
  target = jax.eval_shape(
      model.init, jax.random.key(0), np.zeros((1, 3, 4, 6, 36), np.float32),
      np.zeros(1, np.float32), inputs["prompt_embeds"],
      inputs["image_embeds"])["params"]
  params = weights.load(
      _part(files, "transformer"), names.NAMES["diffusers"], target)
  return vae_config, vae_params, model, params


def test_image_to_video(golden):
  kwargs, files = golden("pipe_wan_i2v")
  config, vae_params, model, params = _network(kwargs, files)
  inputs, outputs, call = files["inputs"], files["outputs"], kwargs["call"]
  calls = []

  def predict(noisy, t, cond, text, image):
    joined = condition.join(noisy, cond, 4)
    time = jnp.full(len(noisy), t)
    jax.debug.callback(lambda *seen: calls.append(seen), joined, time,
                       ordered=True)
    return model.apply({"params": params}, joined, time, text, image)

  def pipeline(frame, noise):
    clip = condition.clip(frame, call["num_frames"])
    cond = vae.normalise(
        config, vae.mode(vae.encode(config, vae_params, clip)))
    guided = guide.classifier_free(predict, call["guidance_scale"])
    image = inputs["image_embeds"]
    latent = sample.unipc(
        lambda x, t: guided(
            x, t, (cond, inputs["prompt_embeds"], image),
            (cond, inputs["negative_prompt_embeds"], image)),
        noise,
        sample.wan_sigmas(
            call["num_inference_steps"], kwargs["scheduler"]["flow_shift"]))
    video = vae.decode(config, vae_params, vae.denormalise(config, latent))
    return latent, video

  frame = rearrange(inputs["image"], "b c h w -> b h w c") * 2 - 1
  latent, video = jax.jit(pipeline)(frame, _last(inputs["latents"]))
  jax.effects_barrier()

  assert len(calls) == kwargs["n_model_calls"] // 2  # branches go as a batch
  for step, (joined, time) in enumerate(calls):
    for branch in range(2):
      golden_call = f"call{2 * step + branch}"
      np.testing.assert_array_equal(
          time[branch : branch + 1], outputs[f"{golden_call}/timestep"])
      np.testing.assert_allclose(
          joined[branch : branch + 1],
          _last(outputs[f"{golden_call}/hidden_states"]), atol=1e-4)
  np.testing.assert_allclose(latent, _last(outputs["latents"]), atol=1e-4)
  np.testing.assert_allclose(
      (video + 1) / 2, rearrange(outputs["video"], "b f c h w -> b f h w c"),
      atol=1e-4)
