"""Cosmos-Predict2: transformer, video to world."""

import types

import diffusers
import torch
from diffusers.models.transformers import transformer_cosmos

from goldens import case as case_lib
from goldens import wan


def _nearest(mask, size, interpolation):
  del interpolation
  return torch.nn.functional.interpolate(mask, size, mode="nearest")


# Without torchvision only this one call is missing: it resizes the mask of
# padding, which is zero everywhere.
if not hasattr(transformer_cosmos, "transforms"):
  transformer_cosmos.transforms = types.SimpleNamespace(
      functional=types.SimpleNamespace(resize=_nearest),
      InterpolationMode=types.SimpleNamespace(NEAREST="nearest"))

SIZES = dict(
    num_attention_heads=2, attention_head_dim=12, num_layers=2, mlp_ratio=3.0,
    text_embed_dim=20, adaln_lora_dim=6, max_size=[6, 16, 16],
    patch_size=[1, 2, 2], rope_scale=[1.0, 3.0, 3.0], concat_padding_mask=True,
    extra_pos_embed_type=None)


def _transformer(case):
  kwargs = {**SIZES, "in_channels": 7, "out_channels": 6}
  fps = 10
  net = case_lib.network(case, diffusers.CosmosTransformer3DModel, kwargs,
                         {"non_tensor_inputs": {"fps": fps}})
  frames, height, width = 3, 4, 6
  mask = torch.zeros(1, 1, frames, height, width)
  mask[:, :, 0] = 1
  time = torch.full((2, 1, frames, 1, 1), 0.0001)
  time[0, :, 1:], time[1, :, 1:] = 0.96875, 0.15625
  given = case.given(
      hidden_states=case.normal("latent", 2, 6, frames, height, width),
      timestep=time,
      encoder_hidden_states=case.normal("text", 2, 8, 20),
      condition_mask=mask.expand(2, -1, -1, -1, -1),
      padding_mask=torch.zeros(1, 1, 8 * height, 8 * width))
  case.outputs.update(
      sample=net(**given, fps=fps).sample,
      sample_fps24=net(**given, fps=24).sample,
      sample_fps_none=net(**given).sample,
      sample_t1d=net(**{**given, "timestep": time[:, 0, -1, 0, 0]},
                     fps=fps).sample)


class _NothingToCheck(torch.nn.Module):
  """In place of the checker of prompts: there is none, nor real weights."""

  device, dtype = torch.device("cpu"), torch.float32

  def check_text_safety(self, prompt):
    del prompt
    return True

  def check_video_safety(self, frames):
    return frames


def _pipeline(case):
  kwargs = {**SIZES, "in_channels": 17, "out_channels": 16, "num_layers": 1}
  call = dict(height=16, width=32, num_frames=5, num_inference_steps=3,
              guidance_scale=5.0, fps=12)
  vae = case.fill(diffusers.AutoencoderKLWan(**wan.SMALL_VAE), "vae/",
                  quiet=("decoder.conv_out.weight",))
  net = case.fill(
      diffusers.CosmosTransformer3DModel(**kwargs), "transformer/")
  case_lib.take_the_mode(vae)
  calls = []
  case_lib.watch(
      net, calls, ("hidden_states", "timestep", "condition_mask"))
  pipe = diffusers.Cosmos2VideoToWorldPipeline(
      text_encoder=None, tokenizer=None, transformer=net, vae=vae,
      scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
          use_karras_sigmas=True),
      safety_checker=_NothingToCheck())
  case.config = {"class": type(pipe).__name__, "transformer": kwargs,
                 "vae": wan.SMALL_VAE, "call": call}
  given = case.given(
      image=case.picture("image", 1, 3, call["height"], call["width"]),
      latents=case.normal("noise", 1, 16, 2, 2, 4),
      prompt_embeds=case.normal("prompt_embeds", 1, 8, 20),
      negative_prompt_embeds=case.normal("negative_prompt_embeds", 1, 8, 20))
  case_lib.keep_pipeline(case, calls, *case_lib.run_both(pipe, **given, **call))


CASES = {"cosmos_v2w_b": _transformer, "pipe_cosmos_v2w_b": _pipeline}
