"""CogVideoX 1.0 and 1.5: transformers, autoencoder, image to video."""

import diffusers
import torch

from goldens import case as case_lib

FIRST = dict(
    num_attention_heads=1, attention_head_dim=16, in_channels=12,
    out_channels=6, time_embed_dim=12, text_embed_dim=18, num_layers=2,
    sample_width=6, sample_height=4, sample_frames=5, patch_size=2,
    patch_size_t=None, temporal_compression_ratio=4, max_text_seq_length=7,
    use_rotary_positional_embeddings=True,
    use_learned_positional_embeddings=True, attention_bias=True)
SECOND = dict(
    num_attention_heads=2, attention_head_dim=16, in_channels=8,
    out_channels=4, time_embed_dim=16, text_embed_dim=20, num_layers=1,
    sample_width=16, sample_height=12, sample_frames=9, patch_size=2,
    patch_size_t=2, temporal_compression_ratio=4, max_text_seq_length=9,
    use_rotary_positional_embeddings=True,
    use_learned_positional_embeddings=False, attention_bias=True,
    ofs_embed_dim=16, patch_bias=False)
VAE = dict(
    in_channels=3, out_channels=3, latent_channels=4, layers_per_block=1,
    norm_num_groups=2, temporal_compression_ratio=4, scaling_factor=0.7)


def _pipe(transformer, vae):
  return diffusers.CogVideoXImageToVideoPipeline(
      tokenizer=None, text_encoder=None, vae=vae, transformer=transformer,
      scheduler=diffusers.CogVideoXDDIMScheduler(
          beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
          prediction_type="v_prediction", timestep_spacing="trailing",
          rescale_betas_zero_snr=True, set_alpha_to_one=True,
          clip_sample=False, snr_shift_scale=1.0))


def _transformer(case, kwargs, grid, times):
  """A case of the transformer; `grid` is latent (t, h, w)."""
  net = case_lib.network(
      case, diffusers.CogVideoXTransformer3DModel, kwargs)
  frames, height, width = grid
  # The pipeline makes the tables of positions, from sizes in pixels.
  tables = _pipe(net, None)._prepare_rotary_positional_embeddings(
      8 * height, 8 * width, frames, torch.device("cpu"))
  batch = len(times)
  given = dict(
      hidden_states=case.normal(
          "latent", batch, frames, kwargs["in_channels"], height, width),
      timestep=torch.tensor(times),
      encoder_hidden_states=case.normal(
          "text", batch, kwargs["max_text_seq_length"],
          kwargs["text_embed_dim"]))
  if kwargs.get("ofs_embed_dim"):
    given["ofs"] = torch.full((1,), 2.0)
  case.given(**given, **{f"image_rotary_emb.{i}": table
                         for i, table in enumerate(tables)})
  case.outputs["sample"] = net(**given, image_rotary_emb=tables).sample


def _autoencoder(case):
  kwargs = {**VAE, "block_out_channels": [4, 4, 4, 6], "latent_channels": 3,
            "sample_height": 32, "sample_width": 32}
  net = case_lib.network(case, diffusers.AutoencoderKLCogVideoX, kwargs)
  x = case.picture("x", 1, 3, 17, 16, 8, lowest=-1.0)
  z = case.normal("z", 1, 3, 5, 2, 1)
  case.given(x=x, z=z)
  moments = {frames: net.encode(x[:, :, :frames]).latent_dist.parameters
             for frames in (17, 9, 1)}
  case.outputs.update(
      moments=moments[17], moments_T9=moments[9], img_moments=moments[1],
      decode=net.decode(z).sample, decode_T4=net.decode(z[:, :, :4]).sample,
      decode_T1=net.decode(z[:, :, :1]).sample)


def _pipeline(case, kwargs, inverted, call):
  vae_kwargs = {**VAE, "block_out_channels": [4, 4, 4, 4],
                "sample_height": call["height"], "sample_width": call["width"],
                "invert_scale_latents": inverted}
  vae = case.fill(diffusers.AutoencoderKLCogVideoX(**vae_kwargs), "vae/")
  net = case.fill(
      diffusers.CogVideoXTransformer3DModel(**kwargs), "transformer/")
  case_lib.take_the_mode(vae)
  calls = []
  case_lib.watch(net, calls, ("hidden_states", "timestep"))
  pipe = _pipe(net, vae)
  case.config = {"class": type(pipe).__name__, "transformer": kwargs,
                 "vae": vae_kwargs, "call": call}
  frames = 1 + (call["num_frames"] - 1) // 4
  frames += frames % (kwargs["patch_size_t"] or 1)
  text = 1, kwargs["max_text_seq_length"], kwargs["text_embed_dim"]
  given = case.given(
      image=case.picture("image", 1, 3, call["height"], call["width"]),
      latents=case.normal("noise", 1, frames, kwargs["out_channels"],
                          call["height"] // 8, call["width"] // 8),
      prompt_embeds=case.normal("prompt_embeds", *text),
      negative_prompt_embeds=case.normal("negative_prompt_embeds", *text))
  case_lib.keep_pipeline(case, calls, *case_lib.run_both(pipe, **given, **call))


CASES = {
    "cogvideox_i2v_b": lambda case: _transformer(
        case, FIRST, (2, 4, 6), [711, 40]),
    "cogvideox15_i2v_b": lambda case: _transformer(
        case, SECOND, (6, 6, 4), [999, 123]),
    "cogvideox_vae_b": _autoencoder,
    "pipe_cogvideox_i2v_b": lambda case: _pipeline(
        case, {**FIRST, "in_channels": 8, "out_channels": 4, "num_layers": 1,
               "sample_height": 4, "sample_width": 2, "sample_frames": 9},
        False,
        dict(height=32, width=16, num_frames=9, num_inference_steps=3,
             guidance_scale=6.0, use_dynamic_cfg=False)),
    "pipe_cogvideox_i2v_dynamic_b": lambda case: _pipeline(
        case, {**FIRST, "in_channels": 8, "out_channels": 4, "num_layers": 1,
               "sample_height": 2, "sample_width": 2, "sample_frames": 5},
        False,  # 7 strides of 142 leave the least noise in
        dict(height=16, width=16, num_frames=5, num_inference_steps=7,
             guidance_scale=6.0, use_dynamic_cfg=True)),
    "pipe_cogvideox15_i2v_b": lambda case: _pipeline(
        case, {**SECOND, "num_attention_heads": 1}, True,
        dict(height=16, width=32, num_frames=9, num_inference_steps=2,
             guidance_scale=4.0, use_dynamic_cfg=False)),
}
