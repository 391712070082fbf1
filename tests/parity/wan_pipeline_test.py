"""Image to video as diffusers' pipelines do it, call by call."""

import dataclasses

import jax
import numpy as np
import pytest
from einops import rearrange

from dreamgen_jax import weights
from dreamgen_jax.encoders import clip, t5
from dreamgen_jax.world_models.wan import dit, model, vae, vae_weights
from dreamgen_jax.world_models.wan import weights as names
from tests import golden_cases
from tests.parity import wan_vae_test


def _last(x):
  return rearrange(x, "b c t h w -> b t h w c")


def _part(files, part):
  return {name.removeprefix(f"{part}/"): tensor
          for name, tensor in files["weights"].items()
          if name.startswith(f"{part}/")}


@dataclasses.dataclass(frozen=True)
class Spy(model.Model):
  """Notes what the transformer is given."""

  def _tell(self, noisy, tau, batch):
    told = super()._tell(noisy, tau, batch)
    jax.debug.callback(lambda *seen: self.config.calls.append(seen), *told,
                       ordered=True)
    return told


@dataclasses.dataclass(frozen=True)
class Config(model.Config):
  calls: list = dataclasses.field(default_factory=list, compare=False)


def _model(kwargs, text_len):
  sizes, call = kwargs["transformer"], kwargs["call"]
  heads, image_dim = sizes["num_attention_heads"], sizes.get("image_dim")
  positions = sizes.get("pos_embed_seq_len")  # of a first and a last frame
  transformer = dit.Config(
      width=heads * sizes["attention_head_dim"], heads=heads,
      layers=sizes["num_layers"], ffn=sizes["ffn_dim"],
      in_channels=sizes["in_channels"], out_channels=sizes["out_channels"],
      text_dim=sizes["text_dim"], text_len=text_len,
      freq_dim=sizes["freq_dim"], image_dim=image_dim,
      image_positions=positions, epsilon=sizes["eps"])
  changes = {}
  if kwargs.get("expand_timesteps"):
    changes["given"] = "replace"
  if positions:
    changes["given"] = "both_ends"
  if "boundary_ratio" in kwargs:
    changes = {"boundary": kwargs["boundary_ratio"],
               "low_guidance": call["guidance_scale_2"]}
  return Spy(Config(
      transformer, wan_vae_test.config_of(kwargs["vae"]),
      t5.PRESETS["umt5_xxl"],
      frames=call["num_frames"],
      height=call["height"], width=call["width"], video_hz=16.0,
      sample_shift=kwargs["scheduler"]["flow_shift"],
      steps=call["num_inference_steps"], guidance=call["guidance_scale"],
      image=clip.Config(image_dim, 1, 1, 1, 1, 1) if image_dim else None,
      **changes))


def _load(dreamer, files, image):
  c, shape = dreamer.config, jax.ShapeDtypeStruct
  target = {"vae": jax.eval_shape(
      lambda key: vae.init(c.vae, key), jax.random.key(0))}
  noisy = shape((1, *c.latent_shape[:3], c.transformer.in_channels), np.float32)
  text = shape((1, c.transformer.text_len, c.transformer.text_dim), np.float32)
  for expert in c.experts:
    target[expert] = jax.eval_shape(
        dit.Transformer(c.transformer).init, jax.random.key(0), noisy,
        shape((1,), np.float32), text, image)["params"]
  table = {part: names.NAMES["diffusers"] for part in c.experts}
  table["vae"] = vae_weights.NAMES["diffusers"]
  return {part: weights.load(_part(files, part), table[part], target[part])
          for part in target}


@pytest.mark.parametrize("case", golden_cases.cases(
    "pipe_wan_i2v", "pipe_wan_flf2v", "pipe_wan22_ti2v", "pipe_wan22_a14b"))
def test_image_to_video(golden, case):
  kwargs, files = golden(case)
  inputs, outputs = files["inputs"], files["outputs"]
  dreamer = _model(kwargs, inputs["prompt_embeds"].shape[1])
  image = inputs.get("image_embeds")
  if image is not None:  # of two frames, one behind the other
    image = rearrange(image, "b i d -> 1 (b i) d")
  params = _load(dreamer, files, image)
  # The released pipeline was given the CLIP states, and no tower.
  plain = dataclasses.replace(dreamer.config, image=None, transformer=(
      dataclasses.replace(dreamer.config.transformer, image_dim=None)))
  frame, *last = (
      rearrange(inputs[name], "b c h w -> b h w c") * 2 - 1
      for name in ("image", "last_image") if name in inputs)

  @jax.jit
  def pipeline(frame, noise):
    given = Spy(plain).encode_frame(params, frame, *last)
    if image is not None:
      given["image"] = image
    latent = dreamer.denoise(
        params, noise, given, {"text": inputs["prompt_embeds"]},
        {"text": inputs["negative_prompt_embeds"]})
    return latent, dreamer.decode(params, latent)

  latent, video = pipeline(frame, _last(inputs["latents"]))
  jax.effects_barrier()

  calls = dreamer.config.calls
  assert len(calls) == kwargs["n_model_calls"] // 2  # branches go as a batch
  for step, (noisy, time) in enumerate(calls):
    for branch in range(2):
      golden_call = f"call{2 * step + branch}"
      told = outputs[f"{golden_call}/timestep"]  # for each token, in TI2V
      ours = np.repeat(time[branch], told.size // time[branch].size)
      np.testing.assert_allclose(ours, told.ravel(), atol=1e-4)
      np.testing.assert_allclose(
          noisy[branch : branch + 1],
          _last(outputs[f"{golden_call}/hidden_states"]), atol=1e-4)
  np.testing.assert_allclose(latent, _last(outputs["latents"]), atol=1e-4)
  np.testing.assert_allclose(
      video / 255, rearrange(outputs["video"], "b f c h w -> b f h w c"),
      atol=0.5 / 255 + 1e-4)
