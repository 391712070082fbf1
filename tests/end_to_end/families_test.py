"""Every family walks from nothing to a dream through the stages, tiny."""

import dataclasses
import functools

import numpy as np
import pytest

from configs import common
from dreamgen_jax import checkpoint, paths, registry
from dreamgen_jax.data import rlds
from dreamgen_jax.stages import models, pipeline

SIZE, FRAMES, CLIPS, LENGTH = 16, 5, 3, 17  # `recorded` is of these
_CLIP = dict(frames=FRAMES, height=SIZE, width=SIZE)
_T5 = dict(width=16, heads=2, head_dim=8, ffn=16, layers=1)
_WAN_DIT = dict(width=24, heads=2, layers=1, ffn=32, text_dim=16, freq_dim=16)
# What replaces sizes of the nano preset, which is walked as it is otherwise.
TINY = {
    "wan_nano": dict(
        vae=dict(base_dim=4, dim_mult=(1,), temporal_downsample=()),
        text=_T5, transformer=_WAN_DIT),
    "wan2_2_nano": dict(
        vae=dict(base_dim=4, dim_mult=(1,), temporal_downsample=()),
        text=_T5, transformer=_WAN_DIT),
    "cosmos_nano": dict(
        vae=dict(base_dim=4, dim_mult=(1,), temporal_downsample=()),
        text=_T5, transformer=dict(
            width=24, heads=2, layers=1, ffn=32, text_dim=16, rank=4)),
    "cogvideox_nano": dict(
        vae=dict(widths=(4,), groups=2, time_factor=1), text=_T5,
        transformer=dict(width=32, heads=2, layers=1, text_dim=16,
                         time_dim=8)),
    "hunyuan_nano": dict(
        vae=dict(widths=(4,), groups=2, space_factor=1, time_factor=1),
        text=dict(
            vision=dict(width=16, depth=2, mlp_width=16, image_size=16),
            language=dict(width=16, heads=2, kv_heads=1, head_dim=8, ffn=16,
                          layers=3)),
        text_2=dict(width=16, depth=1, heads=2, mlp_width=16),
        transformer=dict(width=24, heads=2, ffn=32, dual_layers=1,
                         single_layers=1, text_dim=16, pooled_dim=16,
                         rotary=(4, 4, 4))),
}


@pytest.mark.slow
@pytest.mark.sim
@pytest.mark.parametrize("choice", common.WORLD_MODELS)
def test_from_nothing_to_a_dream(choice, tmp_path, recorded, cheap, road,
                                 draw, monkeypatch):
  chosen = common.WORLD_MODELS[choice]
  family = registry.find("world_models", chosen["name"])
  spec = dict(name=chosen["name"], preset=chosen["preset"])
  tiny = models.build("world_models", spec | dict(kw=_CLIP | TINY[choice]))
  monkeypatch.setitem(family.PRESETS, chosen["preset"], tiny.config)
  whole, part = family.Model.init, family.RECIPE.init
  monkeypatch.setattr(family.Model, "init", lambda model, rng: draw(
      functools.partial(whole, model), rng))
  monkeypatch.setattr(family, "RECIPE", dataclasses.replace(
      family.RECIPE, init=lambda config, rng: draw(
          functools.partial(part, config), rng)))
  few = dict(steps=2, batch_size=2, ema=False, log_steps=1)
  data = dict.fromkeys(("plain", "random", "heldout"), recorded)

  # --- from nothing to a folder
  pipeline.run(road(
      "nano_pretrain.py", ("vae", "latents", "world_model", "export"),
      {"world_model": choice, "vae.crop_size": 8, "vae.crop_frames": FRAMES,
       "latents.batch_size": 2,
       # The first layers alone: gradients pass all others, and there is less
       # of the optimiser to compile.
       "vae.train.trainable": "conv_in",
       "world_model.train.trainable": "transformer/patch|token/embedding"}
      | {f"{stage}.train.{key}": value for stage in ("vae", "world_model")
         for key, value in few.items()}
      | {f"{stage}.inputs.{key}": value for stage in ("vae", "latents")
         for key, value in data.items()}), tmp_path)
  latent = np.load(tmp_path / "latents" / "plain" / "latent.npy")
  assert latent.shape[1:] == tiny.config.latent_shape
  np.testing.assert_allclose(latent.std(), 1, atol=0.05)

  # --- from the folder to a dream
  weights = tmp_path / "export" / chosen["preset"]
  pipeline.run(road(
      "quickstart.py", ("finetune", "dreams"),
      {"world_model": choice, "weights": weights, "finetune.batch_size": 2,
       "finetune.evaluate_clips": 2, "finetune.sampler.batch_size": 2,
       "finetune.lora.rank": 2, "finetune.inputs.demonstrations": recorded,
       "finetune.inputs.heldout": recorded, "dreams.shards": 1,
       "dreams.batch_size": 2, "dreams.inputs.prompts": recorded}
      | {f"finetune.train.{key}": value for key, value in few.items()}
      | {f"{stage}.steps": 2 for stage in ("finetune.sampler", "dreams")}),
      tmp_path / "tuned")
  # The folder's own normalisation was read, and weights, in half precision.
  latent = np.load(tmp_path / "tuned" / "finetune" /
                   f"latents_demonstrations_{FRAMES}" / "latent.npy")
  np.testing.assert_allclose(latent.std(), 1, atol=0.05)
  adapters, _ = checkpoint.load(tmp_path / "tuned" / "finetune" / "checkpoint")
  assert any(np.any(leaf) for path, leaf in paths.flatten(adapters).items()
             if path.endswith("lora_b"))
  shown = rlds.Dataset(tmp_path / "tuned" / "dreams" / "data")
  assert len(shown) == CLIPS
  videos = [shown.episode(i).video["front"] for i in range(CLIPS)]
  assert videos[0].shape == (FRAMES, SIZE, SIZE, 3)
  assert np.any(videos[0] != videos[1])
