"""HunyuanVideo: transformers, autoencoder, image to video."""

import diffusers
import torch

from goldens import case as case_lib

SIZES = dict(
    num_attention_heads=2, attention_head_dim=8, num_layers=1,
    num_single_layers=2, num_refiner_layers=1, mlp_ratio=3.0, patch_size=2,
    patch_size_t=1, qk_norm="rms_norm", text_embed_dim=20,
    pooled_projection_dim=14, rope_theta=256.0, rope_axes_dim=[4, 2, 2])
TEXT = dict(in_channels=6, out_channels=6, guidance_embeds=True,
            image_condition_type=None)
CONCAT = dict(in_channels=7, out_channels=3, guidance_embeds=False,
              image_condition_type="latent_concat")
REPLACE = dict(in_channels=4, out_channels=4, guidance_embeds=True,
               image_condition_type="token_replace")


def _text(case, lengths, longest):
  """Prompts' states, their mask and their pooled states."""
  mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
  return (case.normal("text", *mask.shape, SIZES["text_embed_dim"]),
          mask.long(),
          case.normal("pooled", len(lengths), SIZES["pooled_projection_dim"]))


def _transformer(case, kind, grid, lengths, times, guidance=None):
  """A case of the transformer; `grid` is latent (t, h, w)."""
  kwargs = {**SIZES, **kind}
  net = case_lib.network(
      case, diffusers.HunyuanVideoTransformer3DModel, kwargs)
  text, mask, pooled = _text(case, lengths, 8)
  guidances = {}
  if guidance:
    guidances["guidance"] = torch.tensor(guidance)
  given = case.given(
      hidden_states=case.normal(
          "latent", len(lengths), kwargs["in_channels"], *grid),
      timestep=torch.tensor(times), encoder_hidden_states=text,
      encoder_attention_mask=mask, pooled_projections=pooled, **guidances)
  case.outputs["sample"] = net(**given).sample


VAE = dict(in_channels=3, out_channels=3, latent_channels=4,
           layers_per_block=1, scaling_factor=0.476986)


def _autoencoder(case):
  kwargs = {**VAE, "latent_channels": 3, "block_out_channels": [4, 4, 4, 6],
            "norm_num_groups": 2, "spatial_compression_ratio": 8,
            "temporal_compression_ratio": 4, "mid_block_add_attention": True}
  net = case_lib.network(case, diffusers.AutoencoderKLHunyuanVideo, kwargs,
                         quiet=("decoder.conv_out.conv.weight",))
  x = case.picture("x", 1, 3, 21, 8, 16, lowest=-1.0)
  z = case.normal("z", 1, 3, 6, 1, 2)
  case.given(x=x, z=z)
  for tiled, name in ((True, "tiled"), (False, "whole")):
    net.use_framewise_encoding = net.use_framewise_decoding = tiled
    case.outputs[f"moments_T21_{name}"] = net.encode(x).latent_dist.parameters
    case.outputs[f"decode_T21_{name}"] = net.decode(z).sample
  for frames, name in ((9, "moments_T9"), (1, "img_moments")):
    posterior = net.encode(x[:, :, :frames]).latent_dist
    case.outputs[name] = posterior.parameters
  case.outputs["decode_T3"] = net.decode(z[:, :, :3]).sample


def _pipeline(case, kind, call):
  kwargs = {**SIZES, **kind, "num_single_layers": 1}
  vae_kwargs = {**VAE, "block_out_channels": [4, 4, 4, 4],
                "norm_num_groups": 2}
  vae = case.fill(diffusers.AutoencoderKLHunyuanVideo(**vae_kwargs), "vae/",
                  quiet=("decoder.conv_out.conv.weight",))
  net = case.fill(
      diffusers.HunyuanVideoTransformer3DModel(**kwargs), "transformer/")
  calls = []
  case_lib.watch(net, calls, ("hidden_states", "timestep", "guidance"))
  shift = 7.0
  pipe = diffusers.HunyuanVideoImageToVideoPipeline(
      text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None,
      image_processor=None, transformer=net, vae=vae,
      scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=shift))
  case.config = {"class": type(pipe).__name__, "transformer": kwargs,
                 "vae": vae_kwargs, "scheduler": {"shift": shift},
                 "call": call}
  text, mask, pooled = _text(case, [6], 8)
  given = case.given(
      image=case.picture("image", 1, 3, call["height"], call["width"]),
      latents=case.normal(
          "noise", 1, kwargs["out_channels"], 1 + (call["num_frames"] - 1) // 4,
          call["height"] // 8, call["width"] // 8),
      prompt_embeds=text, prompt_attention_mask=mask,
      pooled_prompt_embeds=pooled)
  latents, video = case_lib.run_both(pipe, **given, **call)
  if kind["image_condition_type"] == "latent_concat":
    latents = latents[:, :, 1:]  # as the pipeline returns them
  case_lib.keep_pipeline(case, calls, latents, video)


CASES = {
    "hunyuan_t2v_b": lambda case: _transformer(
        case, TEXT, (2, 4, 6), [8, 3], [650.0, 12.0], [4500.0, 1000.0]),
    "hunyuan_i2v_concat_b": lambda case: _transformer(
        case, CONCAT, (3, 6, 4), [5, 8], [975.0, 330.0]),
    "hunyuan_i2v_token_replace_b": lambda case: _transformer(
        case, REPLACE, (4, 4, 4), [2, 7], [815.0, 78.0], [6000.0, 7500.0]),
    "hunyuan_vae_b": _autoencoder,
    "pipe_hunyuan_concat_b": lambda case: _pipeline(
        case, {**CONCAT, "in_channels": 9, "out_channels": 4},
        dict(height=16, width=32, num_frames=9, num_inference_steps=2,
             guidance_scale=1.0, true_cfg_scale=1.0)),
    "pipe_hunyuan_token_replace_b": lambda case: _pipeline(
        case, REPLACE,
        dict(height=32, width=16, num_frames=5, num_inference_steps=3,
             guidance_scale=4.5, true_cfg_scale=1.0)),
}
