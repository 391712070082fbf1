"""diffusers' Wan transformer, forward and training step, on `turns`.

  python -m dreamgen_jax.benchmarks.peers.wan_diffusers FOLDER

FOLDER holds config.json, weights.safetensors and inputs.safetensors, written by
`benchmarks.wan_transformer`. Needs torch and diffusers and nothing of ours.
"""

import json
import pathlib
import sys

import diffusers
import torch
from safetensors import torch as safetensors

from dreamgen_jax.benchmarks import turns


def main(folder: pathlib.Path) -> None:
  """Serves "forward" and "step"."""
  facts = json.loads((folder / "config.json").read_text())
  torch.set_num_threads(facts["threads"])
  net = diffusers.WanTransformer3DModel(**facts["transformer"])
  net.load_state_dict(safetensors.load_file(folder / "weights.safetensors"))
  batch = safetensors.load_file(folder / "inputs.safetensors")
  optimizer = torch.optim.AdamW(
      net.parameters(), lr=facts["learning_rate"], weight_decay=0.0)

  def run():
    return net(batch["latent"], batch["time"], batch["text"]).sample

  def forward():
    with torch.inference_mode():
      return run().abs().mean()

  def step():
    loss = ((run() - batch["target"]) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()

  turns.serve({"forward": forward, "step": step})


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
