"""Wan 2.1 and 2.2: transformers, autoencoders, image to video."""

import diffusers
import torch

from goldens import case as case_lib

TRANSFORMER = dict(
    patch_size=[1, 2, 2], cross_attn_norm=True,
    qk_norm="rms_norm_across_heads", eps=1e-6, rope_max_seq_len=32)


def _transformer(case, text_tokens, grid, batch, time, **sizes):
  """A case of the transformer; `grid` is latent (t, h, w)."""
  kwargs = {**TRANSFORMER, **sizes}
  net = case_lib.network(case, diffusers.WanTransformer3DModel, kwargs)
  images = {}
  if sizes.get("image_dim"):
    pair = 2 if sizes.get("pos_embed_seq_len") else 1  # first and last frame
    images["encoder_hidden_states_image"] = case.normal(
        "image", batch * pair, 4, sizes["image_dim"])
  given = case.given(
      hidden_states=case.normal("latent", batch, sizes["in_channels"], *grid),
      timestep=time,
      encoder_hidden_states=case.normal(
          "text", batch, text_tokens, sizes["text_dim"]),
      **images)
  case.outputs["sample"] = net(**given).sample


def _text_to_video(case):
  _transformer(
      case, 7, (2, 6, 4), 2, torch.tensor([37, 962]), num_attention_heads=2,
      attention_head_dim=12, in_channels=6, out_channels=6, text_dim=20,
      freq_dim=16, ffn_dim=56, num_layers=2)


def _image_to_video(case):
  # The released attention takes the last 512 tokens for text.
  _transformer(
      case, 512, (4, 4, 2), 2, torch.tensor([999, 508]), num_attention_heads=4,
      attention_head_dim=8, in_channels=20, out_channels=8, text_dim=6,
      freq_dim=24, ffn_dim=40, num_layers=1, image_dim=24,
      added_kv_proj_dim=32)


def _first_and_last_frame(case):
  _transformer(
      case, 512, (3, 2, 6), 1, torch.tensor([251]), num_attention_heads=2,
      attention_head_dim=12, in_channels=12, out_channels=4, text_dim=6,
      freq_dim=16, ffn_dim=40, num_layers=2, image_dim=20,
      added_kv_proj_dim=24, pos_embed_seq_len=8)


def _time_per_token(case):
  tokens = torch.tensor([0.0] * 6 + [843.0] * 12)  # 3 frames of 2 x 3
  _transformer(
      case, 9, (3, 4, 6), 2, tokens.expand(2, -1), num_attention_heads=2,
      attention_head_dim=12, in_channels=10, out_channels=10, text_dim=16,
      freq_dim=20, ffn_dim=40, num_layers=1)


def _autoencoder(case, video, **kwargs):
  """A case of the autoencoder; `video` is (f, h, w)."""
  kwargs = {"attn_scales": [], "temperal_downsample": [False, True, True],
            "dropout": 0.0, **kwargs}
  net = case_lib.network(
      case, diffusers.AutoencoderKLWan, kwargs,
      quiet=("decoder.conv_out.weight",))  # keeps pixels off the clamp
  frames, height, width = video
  pixels = 2 * kwargs.get("patch_size", 1) * 4
  case.given(
      x=case.picture("x", 1, 3, frames, height, width, lowest=-1.0),
      img=case.picture("img", 1, 3, 1, height, width, lowest=-1.0),
      z=case.normal("z", 1, kwargs["z_dim"], 1 + (frames - 1) // 4,
                    height // pixels, width // pixels))
  posterior = net.encode(case.inputs["x"]).latent_dist
  mode = posterior.mode()
  mean, std = (torch.tensor(kwargs[f"latents_{name}"]).view(1, -1, 1, 1, 1)
               for name in ("mean", "std"))
  case.outputs.update(
      moments=posterior.parameters, mode=mode,
      mode_normalized=(mode - mean) / std,
      img_mode=net.encode(case.inputs["img"]).latent_dist.mode(),
      decode=net.decode(case.inputs["z"]).sample,
      decode_T1=net.decode(case.inputs["z"][:, :, :1]).sample)


def _autoencoder_2_1(case):
  _autoencoder(
      case, (13, 16, 16), base_dim=3, z_dim=3, dim_mult=[1, 2, 1, 1],
      num_res_blocks=2, latents_mean=[0.3, -0.2, 0.05],
      latents_std=[1.5, 0.8, 1.1])


def _autoencoder_2_2(case):
  _autoencoder(
      case, (9, 32, 16), base_dim=4, decoder_base_dim=5, z_dim=4,
      dim_mult=[1, 1, 2, 1], num_res_blocks=1, is_residual=True, in_channels=12,
      out_channels=12, patch_size=2, scale_factor_temporal=4,
      scale_factor_spatial=16, latents_mean=[0.1, -0.3, 0.2, 0.0],
      latents_std=[0.7, 1.3, 0.5, 0.9])


SMALL_VAE = dict(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1],
                 num_res_blocks=1, temperal_downsample=[False, True, True])
SMALL_VAE_2_2 = dict(
    base_dim=4, decoder_base_dim=4, z_dim=6, dim_mult=[1, 1, 1, 1],
    num_res_blocks=1, temperal_downsample=[False, True, True],
    is_residual=True, in_channels=12, out_channels=12, patch_size=2,
    scale_factor_temporal=4, scale_factor_spatial=16,
    latents_mean=[0.1, -0.3, 0.2, 0.0, 0.4, -0.1],
    latents_std=[0.7, 1.3, 0.5, 0.9, 1.1, 0.6])


def _pipeline(case, sizes, vae_sizes, shift, call, text_tokens, **options):
  """Image to video from a picture, or two, and the prompt's states."""
  sizes = {**TRANSFORMER, **sizes}
  vae = case.fill(diffusers.AutoencoderKLWan(**vae_sizes), "vae/",
                  quiet=("decoder.conv_out.weight",))
  experts = {"transformer": None}
  if "boundary_ratio" in options:
    experts["transformer_2"] = None
  calls = []
  for expert in experts:
    experts[expert] = case.fill(
        diffusers.WanTransformer3DModel(**sizes), f"{expert}/")
    case_lib.watch(experts[expert], calls, ("hidden_states", "timestep"))
  scheduler = diffusers.UniPCMultistepScheduler(
      prediction_type="flow_prediction", use_flow_sigmas=True,
      num_train_timesteps=1000, flow_shift=shift)
  pipe = diffusers.WanImageToVideoPipeline(
      tokenizer=None, text_encoder=None, vae=vae, scheduler=scheduler,
      **experts, **options)
  case.config = {
      "class": type(pipe).__name__, "transformer": sizes, "vae": vae_sizes,
      "scheduler": {"class": type(scheduler).__name__, "flow_shift": shift},
      "call": call, **options}
  factor = vae_sizes.get("scale_factor_spatial", 8)
  if sizes.get("image_dim"):
    pair = 2 if sizes.get("pos_embed_seq_len") else 1  # first and last frame
    states = case.normal("clip", pair, 4, sizes["image_dim"])
    case.given(image_embeds=states)
    if pair == 2:
      case.given(last_image=case.picture(
          "last_image", 1, 3, call["height"], call["width"]))
    pipe.encode_image = lambda image, device: states  # there is no tower
  given = case.given(
      image=case.picture("image", 1, 3, call["height"], call["width"]),
      latents=case.normal(
          "noise", 1, vae_sizes["z_dim"], 1 + (call["num_frames"] - 1) // 4,
          call["height"] // factor, call["width"] // factor),
      **{name: case.normal(name, 1, text_tokens, sizes["text_dim"])
         for name in ("prompt_embeds", "negative_prompt_embeds")})
  latents, video = case_lib.run_both(
      pipe, **given, last_image=case.inputs.get("last_image"), **call)
  if options.get("expand_timesteps"):
    # The pipeline puts the picture back after the last step; the last call's
    # first latent frame is the picture.
    latents = latents.clone()
    latents[:, :, :1] = calls[-1]["hidden_states"][:, :, :1]
  case_lib.keep_pipeline(case, calls, latents, video)


def _pipe_2_1(case):
  _pipeline(
      case, dict(num_attention_heads=2, attention_head_dim=12, in_channels=36,
                 out_channels=16, text_dim=6, freq_dim=16, ffn_dim=48,
                 num_layers=1, image_dim=20, added_kv_proj_dim=24),
      SMALL_VAE, 3.0,
      dict(height=32, width=16, num_frames=5, num_inference_steps=3,
           guidance_scale=4.0), 512)


def _pipe_2_1_first_and_last_frame(case):
  _pipeline(
      case, dict(num_attention_heads=2, attention_head_dim=8, in_channels=36,
                 out_channels=16, text_dim=6, freq_dim=16, ffn_dim=40,
                 num_layers=1, image_dim=20, added_kv_proj_dim=16,
                 pos_embed_seq_len=8),
      SMALL_VAE, 16.0,
      dict(height=16, width=32, num_frames=9, num_inference_steps=3,
           guidance_scale=5.5), 512)


def _pipe_2_2_two_experts(case):
  _pipeline(
      case, dict(num_attention_heads=2, attention_head_dim=8, in_channels=36,
                 out_channels=16, text_dim=14, freq_dim=16, ffn_dim=40,
                 num_layers=1),
      SMALL_VAE, 5.0,
      dict(height=16, width=32, num_frames=5, num_inference_steps=4,
           guidance_scale=3.5, guidance_scale_2=2.5), 11,
      boundary_ratio=0.9)


def _pipe_2_2_time_per_token(case):
  _pipeline(
      case, dict(num_attention_heads=2, attention_head_dim=16, in_channels=6,
                 out_channels=6, text_dim=14, freq_dim=16, ffn_dim=48,
                 num_layers=1),
      SMALL_VAE_2_2, 5.0,
      dict(height=32, width=32, num_frames=5, num_inference_steps=3,
           guidance_scale=5.0), 9, expand_timesteps=True)


CASES = {
    "wan_t2v_b": _text_to_video,
    "wan_i2v_b": _image_to_video,
    "wan_flf2v_b": _first_and_last_frame,
    "wan22_ti2v_b": _time_per_token,
    "wan_vae_b": _autoencoder_2_1,
    "wan22_vae_b": _autoencoder_2_2,
    "pipe_wan_i2v_b": _pipe_2_1,
    "pipe_wan_flf2v_b": _pipe_2_1_first_and_last_frame,
    "pipe_wan22_a14b_b": _pipe_2_2_two_experts,
    "pipe_wan22_ti2v_b": _pipe_2_2_time_per_token,
}
