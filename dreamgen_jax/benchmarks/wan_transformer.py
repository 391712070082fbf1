"""Wan's transformer here against diffusers' in PyTorch, side by side.

  python -m dreamgen_jax.benchmarks.wan_transformer [--peer_python=python3]
      [--width=448] [--layers=8] [--grid=8,32,32] [--rounds=4] [--threads=2]
      [--by=seconds]

The same weights and inputs on both sides, float32: one forward pass, and one
training step (squared error, AdamW). Ours keeps the products with weights for
the backward pass and computes the rest again (remat="dots"), which takes no
more time than keeping all, as the peer does. The peer runs under an
interpreter that has torch and diffusers: `pip install dreamgen_jax[peers]`.
"""

import json
import os
import pathlib
import sys
import tempfile
from typing import Any

from dreamgen_jax import options
from dreamgen_jax.benchmarks import turns

OPTIONS = {
    "peer_python": (sys.executable, "interpreter that has torch, diffusers"),
    "width": (448, "of the transformer, in heads of 64"),
    "layers": (8, "of the transformer"),
    "grid": ("8,32,32", "latent frames, rows and columns; 4 make a token"),
    "rounds": (4, "of which the fastest counts"),
    "threads": (2, "of either side"),
    "by": ("seconds", "what is fastest: seconds, or cpu on a busy machine"),
    "side": ("", "folder of the inputs; used by the program itself"),
}
_RATE = 1e-4


@options.program(__doc__, OPTIONS)
def main(given: Any) -> None:
  """Runs the program."""
  if given.side:
    _serve(pathlib.Path(given.side))
    return
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    _write(folder, given)
    module = "dreamgen_jax.benchmarks"
    turns.duel({
        "dreamgen_jax": [
            sys.executable, "-m", f"{module}.wan_transformer",
            f"--side={folder}"],
        "diffusers": [
            given.peer_python, "-m", f"{module}.peers.wan_diffusers",
            str(folder)],
    }, ("forward", "step"), given.rounds, given.by)


def _write(folder: pathlib.Path, given: Any) -> None:
  """config.json, weights and inputs, in the words and layout of diffusers."""
  import jax
  import numpy as np

  from dreamgen_jax import safetensors, weights
  from dreamgen_jax.world_models.wan import dit
  from dreamgen_jax.world_models.wan import weights as names

  grid = tuple(int(size) for size in given.grid.split(","))
  sizes = dict(width=given.width, heads=given.width // 64,
               layers=given.layers, ffn=4 * given.width, in_channels=16,
               text_dim=512, text_len=64, remat="dots")
  rng = np.random.default_rng(0)
  shapes = {"latent": (1, *grid, 16), "text": (1, 64, 512),
            "target": (1, *grid, 16)}
  batch = {name: rng.standard_normal(shape, np.float32)
           for name, shape in shapes.items()}
  batch["time"] = np.array([500.0], np.float32)
  net = dit.Transformer(dit.Config(**sizes))
  params = jax.device_get(jax.jit(net.init)(
      jax.random.key(0, impl="rbg"), batch["latent"], batch["time"],
      batch["text"])["params"])
  # A head of zeros, as training begins with, would hide every difference.
  params["head"]["kernel"] = 0.02 * rng.standard_normal(
      params["head"]["kernel"].shape, np.float32)
  safetensors.write(folder / "weights.safetensors",
                    weights.export(params, names.NAMES["diffusers"]))
  safetensors.write(folder / "inputs.safetensors", {
      name: np.ascontiguousarray(np.moveaxis(leaf, -1, 1))
      if leaf.ndim == 5 else leaf for name, leaf in batch.items()})
  (folder / "config.json").write_text(json.dumps({
      "ours": sizes, "threads": given.threads, "learning_rate": _RATE,
      "transformer": dict(
          patch_size=(1, 2, 2), num_attention_heads=sizes["heads"],
          attention_head_dim=64, in_channels=16, out_channels=16,
          text_dim=512, freq_dim=256, ffn_dim=sizes["ffn"],
          num_layers=given.layers, cross_attn_norm=True,
          qk_norm="rms_norm_across_heads", eps=1e-6)}))


def _serve(folder: pathlib.Path) -> None:
  """Our side: serves "forward" and "step"."""
  facts = json.loads((folder / "config.json").read_text())
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:facts["threads"]])

  import jax
  import jax.numpy as jnp
  import numpy as np
  import optax

  from dreamgen_jax import runtime, safetensors, weights
  from dreamgen_jax.world_models.wan import dit
  from dreamgen_jax.world_models.wan import weights as names

  runtime.start(None)
  net = dit.Transformer(dit.Config(**facts["ours"]))
  batch = {name: np.moveaxis(leaf, 1, -1) if leaf.ndim == 5 else leaf
           for name, leaf in safetensors.read(
               folder / "inputs.safetensors").items()}
  params = weights.load(
      safetensors.read(folder / "weights.safetensors"),
      names.NAMES["diffusers"],
      jax.eval_shape(net.init, jax.random.key(0), batch["latent"],
                     batch["time"], batch["text"])["params"])
  params = jax.device_put(params)
  optimizer = optax.adamw(facts["learning_rate"], weight_decay=0.0)

  def run(params, batch):
    return net.apply({"params": params}, batch["latent"], batch["time"],
                     batch["text"])

  @jax.jit
  def forward(params, batch):
    return jnp.mean(jnp.abs(run(params, batch)))

  @jax.jit(donate_argnums=0)
  def update(state, batch):
    params, moments = state
    loss, gradient = jax.value_and_grad(
        lambda params: jnp.mean((run(params, batch) - batch["target"]) ** 2))(
            params)
    change, moments = optimizer.update(gradient, moments, params)
    return (optax.apply_updates(params, change), moments), loss

  state = [params, None]

  def step():
    if state[1] is None:
      state[1] = jax.jit(optimizer.init)(state[0])
    (state[0], state[1]), loss = update((state[0], state[1]), batch)
    return jax.block_until_ready((state, loss))[1]

  turns.serve({"forward": lambda: forward(state[0], batch), "step": step})


if __name__ == "__main__":
  sys.exit(main())
