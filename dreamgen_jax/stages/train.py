"""THE training loop: world models, adapters, labelers and policies alike.

A straight line: restore, then step. It knows a model only as a Trainable. A
run that is killed goes on at its last checkpoint and ends bit-equal to one
that was not: state, data position and history are saved together.
"""

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

from dreamgen_jax import checkpoint, errors, interfaces, optim, sharding
from dreamgen_jax import ema as ema_lib
from dreamgen_jax import metrics as metrics_lib

Evaluate = Callable[[Any, int], dict[str, float]]


class Upkeep(Protocol):
  """What a training does to parameters besides descending.

  Its memory is part of the state, so that a resumed run is bit-equal here too.
  """

  def memory(self) -> Any:
    """Tree of arrays at the start."""

  def maintain(self, params: Any, memory: Any,
               scalars: dict[str, jax.Array], step: jax.Array,
               rng: jax.Array) -> tuple[Any, Any]:
    """(trained parameters, memory), just before the update of step `step`.

    Args:
      params: what is trained; None in place of the rest.
      memory: as the step before left it.
      scalars: of this step's loss.
      step: steps done before, i32[].
      rng: of this step.
    """


@dataclasses.dataclass(frozen=True)
class Result:
  """Trained parameters (the averaged ones if config.ema) and their history."""

  params: Any
  history: list[dict[str, Any]]
  seconds: float


def fit(
    model: interfaces.Objective,
    params: Any,
    batches: Any,
    config: Any,
    folder: pathlib.Path,
    *,
    name: str,
    rules: Sequence[tuple[str, tuple]] = ((".*", ()),),
    evaluate: Evaluate | None = None,
    upkeep: Upkeep | None = None,
) -> Result:
  """Trains the parameters whose path matches `config.trainable`.

  Args:
    model: anything with `loss(params, rng, batch)`.
    params: its full parameter tree at the start.
    batches: iterator of dict batches with get_state() and set_state().
    config: steps, seed, optim, trainable, ema, log_steps, eval_steps,
      checkpoint_seconds, mesh.
    folder: where checkpoints and history.jsonl live.
    name: printed in front of progress lines.
    rules: the model's sharding rules.
    evaluate: (full parameters, step) -> named scalars, every
      config.eval_steps.
    upkeep: changes parameters besides the optimiser, see `Upkeep`.

  Raises:
    UserError: the loss is not finite; says between which steps.
  """
  begin = time.monotonic()
  folder.mkdir(parents=True, exist_ok=True)
  mesh = sharding.mesh(dict(config.mesh))
  trainable, frozen = optim.partition(params, config.trainable)
  transform = optim.optimizer(config.optim, config.steps)

  # --- state -----------------------------------------------------------------
  state = {
      "params": trainable,
      "opt": transform.init(trainable),
      "step": jnp.zeros((), jnp.int32),
  }
  if config.ema:
    state["ema"] = trainable
  if upkeep:
    state["memory"] = upkeep.memory()
  rules = [*rules, (r"(^|/)(count|step|mini_step)$", ())]
  state = jax.device_put(
      jax.tree.map(jnp.array, state), sharding.by_rules(state, rules, mesh))
  frozen = jax.device_put(frozen, sharding.by_rules(frozen, rules, mesh))
  root = jax.random.key(config.seed)

  # --- step ------------------------------------------------------------------
  def step_fn(state, frozen, batch):
    rng = jax.random.fold_in(root, state["step"])

    def loss_fn(trainable):
      return model.loss(optim.combine(trainable, frozen), rng, batch)

    (loss, scalars), grads = jax.value_and_grad(loss_fn, has_aux=True)(
        state["params"])
    updates, opt = transform.update(grads, state["opt"], state["params"])
    params, new = state["params"], {"opt": opt, "step": state["step"] + 1}
    if upkeep:
      params, new["memory"] = upkeep.maintain(
          params, state["memory"], scalars, state["step"],
          jax.random.fold_in(rng, 0))
    new["params"] = optax.apply_updates(params, updates)
    if config.ema:
      decay = ema_lib.decay(new["step"])
      new["ema"] = jax.tree.map(
          lambda old, now: decay * old + (1 - decay) * now,
          state["ema"], new["params"])
    return new, scalars | {"loss": loss, "grad": optax.tree.norm(grads)}

  step_jit = jax.jit(step_fn, donate_argnums=0)

  def full(state):
    return optim.combine(
        state["ema"] if config.ema else state["params"], frozen)

  with checkpoint.Series(folder / "steps") as series, jax.set_mesh(mesh):
    # --- restore -------------------------------------------------------------
    start = series.latest or 0
    if start:
      state, meta = series.restore(start, state)
      batches.set_state(meta["data"])
      print(f"[{name}] goes on at step {start} of {config.steps}", flush=True)
    history = metrics_lib.History(folder / "history.jsonl", start)
    progress = metrics_lib.Progress(name, config.steps, "step", start)
    saved = time.monotonic()
    pending: tuple[int, Any] | None = None

    def read(pending):
      step, scalars = pending
      scalars = {key: float(value) for key, value in scalars.items()}
      if not math.isfinite(scalars["loss"]):
        raise errors.UserError(
            f"The loss of {name} is not finite at step {step}; lower "
            "config.optim.learning_rate, or look at the batch that came then.")
      history.append(step, scalars)
      progress.update(step, f"loss {scalars['loss']:.4f}")

    # --- loop ----------------------------------------------------------------
    for step in range(start + 1, config.steps + 1):
      batch = sharding.place_batch(next(batches), mesh)
      state, scalars = step_jit(state, frozen, batch)
      if pending:  # the step before: the device never waits for logging
        read(pending)
        pending = None
      last = step == config.steps
      if last or step % config.log_steps == 0:
        pending = (step, scalars)
      if evaluate and (last or step % config.eval_steps == 0):
        history.append(step, evaluate(full(state), step))
      if last or time.monotonic() - saved > config.checkpoint_seconds:
        if pending:
          read(pending)
          pending = None
        series.save(step, state, {"data": batches.get_state()})
        saved = time.monotonic()

  return Result(
      params=full(state),
      history=metrics_lib.read(folder / "history.jsonl"),
      seconds=time.monotonic() - begin,
  )
