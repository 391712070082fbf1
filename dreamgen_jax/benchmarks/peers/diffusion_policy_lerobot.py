"""lerobot's Diffusion Policy U-Net, training step and sampling, on `turns`.

  python -m dreamgen_jax.benchmarks.peers.diffusion_policy_lerobot FOLDER

FOLDER holds config.json, weights.safetensors and inputs.safetensors, written by
`benchmarks.diffusion_policy`. Needs torch, diffusers and lerobot, and nothing
of ours.
"""

import copy
import json
import pathlib
import sys
import types

import torch
from diffusers.schedulers import scheduling_ddim, scheduling_ddpm
from lerobot.policies.diffusion import modeling_diffusion
from safetensors import torch as safetensors

from dreamgen_jax.benchmarks import turns

_NOISE = dict(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2",
              clip_sample=True, prediction_type="epsilon")


def main(folder: pathlib.Path) -> None:
  """Serves the tasks."""
  facts = json.loads((folder / "config.json").read_text())
  torch.set_num_threads(facts["threads"])
  net = modeling_diffusion.DiffusionConditionalUnet1d(types.SimpleNamespace(
      diffusion_step_embed_dim=facts["step_width"], n_groups=8, kernel_size=5,
      down_dims=facts["widths"], use_film_scale_modulation=True,
      action_feature=types.SimpleNamespace(shape=(facts["action"],))),
      global_cond_dim=facts["condition"])
  net.load_state_dict(safetensors.load_file(folder / "weights.safetensors"))
  fixed = copy.deepcopy(net).eval()
  batch = safetensors.load_file(folder / "inputs.safetensors")
  times = batch["step"].long()
  optimizer = torch.optim.AdamW(
      net.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
  corrupt = scheduling_ddpm.DDPMScheduler(**_NOISE).add_noise
  sampler = scheduling_ddim.DDIMScheduler(
      **_NOISE, set_alpha_to_one=True, steps_offset=0)

  def step():
    noisy = corrupt(batch["action"], batch["noise"], times)
    found = net(noisy, times, global_cond=batch["condition"])
    loss = torch.nn.functional.mse_loss(found, batch["noise"])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()

  def sample(count):
    x, condition = batch["noise"][:count], batch["condition"][:count]
    sampler.set_timesteps(16)
    with torch.inference_mode():
      for t in sampler.timesteps:
        found = fixed(x, t.expand(count), global_cond=condition)
        x = sampler.step(found, t, x).prev_sample
    return x.abs().mean()

  turns.serve({"step": step, "sample_1": lambda: sample(1),
               "sample_8": lambda: sample(8)})


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
