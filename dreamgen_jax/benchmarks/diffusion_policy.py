"""Diffusion Policy's U-Net here against lerobot's in PyTorch, side by side.

  python -m dreamgen_jax.benchmarks.diffusion_policy [--peer_python=python3]
      [--shrink=4] [--batch_size=64] [--rounds=4] [--threads=2] [--by=seconds]

The same weights and inputs on both sides, float32, at the released widths over
`shrink`: one training step (noise prediction, AdamW as released), and the
sampling of a chunk by 16 steps of DDIM, for one observation and for eight. The
condition is given: images are encoded by the same ResNet on both sides. The
peer runs under an interpreter that has torch, diffusers and lerobot.
"""

import json
import os
import pathlib
import re
import sys
import tempfile
from typing import Any

from dreamgen_jax import options
from dreamgen_jax.benchmarks import turns

OPTIONS = {
    "peer_python": (sys.executable, "interpreter that has torch, lerobot"),
    "shrink": (4, "what the released widths are divided by"),
    "batch_size": (64, "of the training step"),
    "rounds": (4, "of which the fastest counts"),
    "threads": (2, "of either side"),
    "by": ("seconds", "what is fastest: seconds, or cpu on a busy machine"),
    "side": ("", "folder of the inputs; used by the program itself"),
}
WIDTHS = (512, 1024, 2048)
TASKS = {"step": "training step", "sample_1": "a chunk, one observation",
         "sample_8": "chunks, eight observations"}
# In lerobot, a residual block's convolutions and resampling ones have names
# of their own.
_RENAMES = ((r"\.blocks\.0\.", ".conv1."), (r"\.blocks\.1\.", ".conv2."),
            (r"\.2\.conv\.", ".2."))


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
            sys.executable, "-m", f"{module}.diffusion_policy",
            f"--side={folder}"],
        "lerobot": [
            given.peer_python, "-m",
            f"{module}.peers.diffusion_policy_lerobot", str(folder)],
    }, TASKS, given.rounds, given.by)


def _net(sizes: dict[str, Any]) -> Any:
  from dreamgen_jax.policies.diffusion_policy import unet

  return unet.ConditionalUnet1D(
      sizes["action"], sizes["widths"], sizes["step_width"])


def _write(folder: pathlib.Path, given: Any) -> None:
  """config.json, weights and inputs, in the words of lerobot."""
  import jax
  import numpy as np

  from dreamgen_jax import safetensors, weights
  from dreamgen_jax.policies.diffusion_policy import weights as names

  sizes = dict(action=10, widths=[width // given.shrink for width in WIDTHS],
               step_width=128, horizon=16, condition=274)
  rng = np.random.default_rng(0)
  b = given.batch_size
  batch = {
      "action": np.clip(rng.standard_normal((b, 16, 10), np.float32), -1, 1),
      "noise": rng.standard_normal((b, 16, 10), np.float32),
      "step": rng.integers(0, 100, b).astype(np.int32),
      "condition": rng.standard_normal((b, 274), np.float32)}
  params = jax.device_get(jax.jit(_net(sizes).init)(
      jax.random.key(0, impl="rbg"), batch["noise"], batch["step"],
      batch["condition"])["params"])
  released = weights.export(params, names.unet("", ""))
  for pattern, word in _RENAMES:
    released = {re.sub(pattern, word, name): leaf
                for name, leaf in released.items()}
  safetensors.write(folder / "weights.safetensors", {
      name: np.ascontiguousarray(leaf) for name, leaf in released.items()})
  safetensors.write(folder / "ours.safetensors", {
      name: np.ascontiguousarray(leaf) for name, leaf in weights.export(
          params, names.unet("", "")).items()})
  safetensors.write(folder / "inputs.safetensors", batch)
  (folder / "config.json").write_text(json.dumps(
      sizes | {"threads": given.threads}))


def _serve(folder: pathlib.Path) -> None:
  """Our side: serves the tasks."""
  facts = json.loads((folder / "config.json").read_text())
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:facts["threads"]])

  import jax
  import jax.numpy as jnp
  import numpy as np
  import optax

  from dreamgen_jax import runtime, safetensors, weights
  from dreamgen_jax.diffusion import process, sample
  from dreamgen_jax.policies.diffusion_policy import weights as names

  runtime.start(None)
  net, alphas = _net(facts), process.squared_cosine(100)
  batch = {name: np.asarray(leaf) for name, leaf in safetensors.read(
      folder / "inputs.safetensors").items()}
  params = jax.device_put(weights.load(
      safetensors.read(folder / "ours.safetensors"), names.unet("", ""),
      jax.eval_shape(net.init, jax.random.key(0), batch["noise"],
                     batch["step"], batch["condition"])["params"]))
  optimizer = optax.adamw(1e-4, 0.95, 0.999, weight_decay=1e-6)

  def run(params, x, step, condition):
    return net.apply({"params": params}, x, step, condition)

  @jax.jit(donate_argnums=0)
  def update(state, batch):
    params, moments = state
    noisy = process.corrupt_ddpm(
        alphas, batch["action"], batch["noise"], batch["step"])
    loss, gradient = jax.value_and_grad(lambda params: jnp.mean((run(
        params, noisy, batch["step"], batch["condition"])
        - batch["noise"]) ** 2))(params)
    change, moments = optimizer.update(gradient, moments, params)
    return (optax.apply_updates(params, change), moments), loss

  @jax.jit
  def act(params, noise, condition):
    chunk = sample.ddim(
        lambda x, t: run(params, x, jnp.full(len(x), t), condition),
        noise, alphas, 16)
    return jnp.mean(jnp.abs(chunk))

  state = [(jax.tree.map(jnp.copy, params), jax.jit(optimizer.init)(params))]

  def step():
    state[0], loss = update(state[0], batch)
    return jax.block_until_ready((state[0], loss))[1]

  turns.serve({"step": step} | {
      f"sample_{count}": lambda count=count: act(
          params, batch["noise"][:count], batch["condition"][:count])
      for count in (1, 8)})


if __name__ == "__main__":
  sys.exit(main())
