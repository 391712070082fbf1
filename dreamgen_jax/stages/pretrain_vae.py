"""Stage: trains a world model's video autoencoder from nothing.

Reads video datasets; writes `checkpoint` (the VAE's parameters) with the mean
and deviation of each latent channel, which diffusion needs, in its facts.
"""

import pathlib
from typing import Any

import jax
import numpy as np

from dreamgen_jax import checkpoint, hosts, metrics, pretraining, registry
from dreamgen_jax.data import catalogue, loader, windows
from dreamgen_jax.stages import models, train

HELDOUT = "heldout"
MEASURED = 32  # held-out clips


def run(config: Any, inputs: dict[str, pathlib.Path],
        folder: pathlib.Path) -> dict[str, Any]:
  """Trains on all inputs but `heldout`, measures on that one."""
  model = models.build("world_models", config.model)
  c = model.config
  objective = pretraining.Autoencoder(
      model, registry.find("world_models", config.model.name).RECIPE,
      crop_size=config.crop_size, crop_frames=config.crop_frames)
  clips = {
      name: windows.Clips(
          windows.Memory(catalogue.open(path / "data"), [config.camera],
                         (c.height, c.width)),
          camera=config.camera, num_frames=c.frames, size=(c.height, c.width),
          video_hz=c.video_hz)
      for name, path in inputs.items()
  }
  batches = loader.loader(
      [(source, 1.0) for name, source in clips.items() if name != HELDOUT],
      config.train.batch_size, config.train.seed,
      then=lambda sample: {"video": sample["video"]},
      **train.share(config.train))
  heldout = np.stack([clips[HELDOUT][i]["video"] for i in range(
      min(MEASURED, len(clips[HELDOUT])))])
  reconstruct, encode = map(
      jax.jit, (objective.reconstruct, objective.encode))

  def evaluate(params, unused_step=0):
    with hosts.locally(params) as params:
      again = np.concatenate([
          np.asarray(reconstruct(params, heldout[i:i + 8]))
          for i in range(0, len(heldout), 8)])
    return {"heldout_psnr": metrics.psnr(again, heldout)}

  result = train.fit(
      objective, objective.init(jax.random.key(config.train.seed)), batches,
      config.train, folder, name=folder.name, evaluate=evaluate)
  batches.close()
  params = hosts.local(result.params)
  sample = [clips[name][i]["video"] for name in clips if name != HELDOUT
            for i in range(0, len(clips[name]), max(len(clips[name]) // 64, 1))]
  size = min(8, len(sample))
  latent = np.concatenate([
      np.asarray(encode(params, np.stack(sample[i:i + size])))
      for i in range(0, len(sample) - size + 1, size)])
  measured = [row for row in result.history if "heldout_psnr" in row]
  facts = {
      "latents_mean": latent.mean(axis=(0, 1, 2, 3)).tolist(),
      "latents_std": latent.std(axis=(0, 1, 2, 3)).tolist(),
      "heldout_psnr": measured[-1]["heldout_psnr"],
      "seconds": result.seconds,
  }
  checkpoint.save(folder / "checkpoint", params, facts)
  return facts | {"loss": result.history[-1].get("loss")}
