"""Video to world as diffusers' pipeline does it, call by call."""

import jax
import numpy as np
import pytest
from einops import rearrange

from dreamgen_jax import weights
from dreamgen_jax.encoders import t5
from dreamgen_jax.world_models.cosmos import dit, model
from dreamgen_jax.world_models.cosmos import weights as names
from dreamgen_jax.world_models.wan import vae
from tests import golden_cases


def _last(x):
  return rearrange(x, "b c t h w -> b t h w c")


def _config(kwargs, text_len):
  sizes, call, video = kwargs["transformer"], kwargs["call"], kwargs["vae"]
  heads = sizes["num_attention_heads"]
  width = heads * sizes["attention_head_dim"]
  return model.Config(
      dit.Config(
          width=width, heads=heads, layers=sizes["num_layers"],
          ffn=int(width * sizes["mlp_ratio"]),
          text_dim=sizes["text_embed_dim"], text_len=text_len,
          rank=sizes["adaln_lora_dim"], stretch=tuple(sizes["rope_scale"]),
          head_epsilon=1e-5,
          position_hz=call["fps"]),  # as diffusers; not as trained
      vae.VaeConfig(
          base_dim=video["base_dim"], z_dim=video["z_dim"],
          dim_mult=tuple(video["dim_mult"]),
          num_res_blocks=video["num_res_blocks"],
          temporal_downsample=tuple(video["temperal_downsample"])),
      t5.Config(4, 4, 1, 4, 4, 1, gated=False),  # the states are given
      frames=call["num_frames"], height=call["height"], width=call["width"],
      video_hz=call["fps"], solver="euler", given=(1, 1),
      steps=call["num_inference_steps"], guidance=call["guidance_scale"])


class _Recorded(model.Model):
  """Keeps what the transformer is told."""

  def velocity(self, params, noisy, tau, clean, known, text, memory=None):
    told, time = model._tell(noisy, tau, clean, known)
    jax.debug.callback(lambda *seen: params["calls"].append(seen), told, time,
                       ordered=True)
    return super().velocity(
        params, noisy, tau, clean, known, text, memory)


@pytest.mark.parametrize("case", golden_cases.cases("pipe_cosmos_v2w"))
def test_video_to_world(golden, case):
  kwargs, files = golden(case)
  inputs, outputs = files["inputs"], files["outputs"]
  texts = [{"text": inputs[f"{name}prompt_embeds"]}
           for name in ("", "negative_")]
  c = _config(kwargs, texts[0]["text"].shape[1])
  dreamer = _Recorded(c)
  target = jax.eval_shape(dreamer.init, jax.random.key(0))
  params = {
      part: weights.load(
          {name.removeprefix(f"{part}/"): tensor
           for name, tensor in files["weights"].items()
           if name.startswith(f"{part}/")},
          names.parts(c)[part], target[part])
      for part in ("transformer", "vae")}
  calls = []

  def encode(video):
    moments = vae.encode(c.vae, params["vae"], video)
    return vae.normalise(c.vae, vae.mode(moments))

  def pipeline(frame, noise):
    latent = dreamer.denoise(
        params | {"calls": calls}, noise, {"condition": encode(frame)}, *texts)
    video = vae.decode(c.vae, params["vae"], vae.denormalise(c.vae, latent))
    return latent, video

  frame = rearrange(inputs["image"], "b c h w -> b 1 h w c") * 2 - 1
  latent, video = jax.jit(pipeline)(frame, _last(inputs["latents"]))
  jax.effects_barrier()

  # Branches go as a batch; diffusers' last call moves nothing.
  assert len(calls) == kwargs["n_model_calls"] // 2 - 1
  for step, (told, time) in enumerate(calls):
    for branch in range(2):
      call = f"call{2 * step + branch}"
      np.testing.assert_allclose(
          time[branch], outputs[f"{call}/timestep"][0, 0, :, 0, 0], rtol=1e-6)
      # diffusers encodes the frame with padding after it, to the same latent.
      state, mask, padding = np.split(told[branch:branch + 1], (16, 17), -1)
      np.testing.assert_allclose(
          state, _last(outputs[f"{call}/hidden_states"]), atol=1e-4)
      np.testing.assert_array_equal(
          mask, _last(outputs[f"{call}/condition_mask"]))
      assert not padding.any()
  np.testing.assert_allclose(latent, _last(outputs["latents"]), atol=1e-4)
  # The golden's pixels were rounded down to whole numbers.
  whole = 255 * rearrange(outputs["video"], "b f c h w -> b f h w c")
  fraction = 255 * (video + 1) / 2 - np.round(whole)
  assert fraction.min() > -0.02 and fraction.max() < 1.02
