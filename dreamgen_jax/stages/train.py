"""THE training loop: world models, adapters, labelers and policies alike.

A straight line: restore, then step. It knows a model only as a Trainable. A
run that is killed goes on at its last checkpoint and ends bit-equal to one
that was not: state, data position and history are saved together, every so
often and when the machine is about to be taken away (SIGTERM). Several hosts
run it in step, each with its part of every batch.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dreamgen_jax import (
    checkpoint,
    errors,
    executable,
    flops,
    hosts,
    interfaces,
    monitor,
    optim,
    sharding,
)
from dreamgen_jax import ema as ema_lib

NONFINITE = ("stop", "skip")

Evaluate = Callable[[Any, int], dict[str, float]]

# Beside a model's own rules: the counters of optimisers and of the loop.
RULES = [(r"(^|/)(count|step|mini_step)$", ())]


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
  """Trained parameters (the averaged ones if config.ema) and their history.

  With several hosts the parameters lie on all of them; see `hosts.local`.
  """

  params: Any
  history: list[dict[str, Any]]
  seconds: float


def initial(params: Any, config: Any,
            upkeep: Upkeep | None = None) -> tuple[dict[str, Any], Any]:
  """(what a step changes, what it does not) at the start of a training.

  Args:
    params: the full parameter tree.
    config, upkeep: as of `fit`.
  """
  trainable, frozen = optim.partition(params, config.trainable)
  state = {
      "params": trainable,
      "opt": optim.optimizer(config.optim, config.steps).init(trainable),
      "step": jnp.zeros((), jnp.int32),
  }
  if config.ema:
    state["ema"] = trainable
  if upkeep:
    state["memory"] = upkeep.memory()
  return state, frozen


def program(model: interfaces.Objective, config: Any,
            upkeep: Upkeep | None = None) -> Callable[..., Any]:
  """One step: (state, fault, frozen, batch) -> (state, fault, scalars).

  `fault`, i32[2], is the first step that was not finite, and how many were.
  Arguments as of `fit`.
  """
  root = jax.random.key(config.seed)
  transform = optim.optimizer(config.optim, config.steps)

  def step_fn(state, fault, frozen, batch):
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
    norm = optax.tree.norm(grads)
    good = jnp.isfinite(loss) & jnp.isfinite(norm)
    new = jax.tree.map(
        lambda new, old: jnp.where(good, new, old), new,
        state | {"step": new["step"]})
    # The first bad step, and how many there were.
    fault = jnp.where(good, fault, jnp.stack(
        [jnp.where(fault[1] > 0, fault[0], new["step"]), fault[1] + 1]))
    return new, fault, scalars | {"loss": loss, "grad": norm}

  return step_fn


def gradient(model: interfaces.Objective) -> Callable[..., Any]:
  """(trainable, frozen, batch) -> gradient: what a step has to compute."""
  def gradient_fn(trainable, frozen, batch):
    rng = jax.random.key(0)
    return jax.grad(lambda trainable: model.loss(
        optim.combine(trainable, frozen), rng, batch)[0])(trainable)

  return gradient_fn


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
      checkpoint_seconds, mesh; nonfinite, if a step whose loss or gradient is
      not finite is to be left out ("skip") rather than to end the run ("stop"),
      and never changes the state; and program, the file of a step that was
      compiled before (`executable`).
    folder: where checkpoints, history.jsonl and speed.jsonl live.
    name: printed in front of progress lines.
    rules: the model's sharding rules.
    evaluate: (full parameters, step) -> named scalars, every
      config.eval_steps.
    upkeep: changes parameters besides the optimiser, see `Upkeep`.

  Raises:
    UserError: the loss or its gradient is not finite; says at which step.
    Stopped: the run was told to stop, and has saved its state.
  """
  begin = time.monotonic()
  nonfinite = config.get("nonfinite", "stop")
  if nonfinite not in NONFINITE:
    raise errors.ConfigError(
        f"nonfinite = {nonfinite!r}; have: {', '.join(NONFINITE)}.")
  folder.mkdir(parents=True, exist_ok=True)
  mesh = sharding.mesh(dict(config.mesh))
  # --- state -----------------------------------------------------------------
  # What is made of parameters, such as moments, lies as they do: no device or
  # host is ever given the whole.
  rules = [*rules, *RULES]
  state, frozen = initial(
      sharding.lay(params, rules, mesh), config, upkeep)
  # A copy, since steps take its memory over.
  lies = sharding.by_rules(state, rules, mesh)
  state = jax.device_put(jax.tree.map(jnp.copy, state), lies)

  # --- step ------------------------------------------------------------------
  # The state stays where it lies, or what reads it would compile twice.
  step_jit = jax.jit(program(model, config, upkeep), donate_argnums=0,
                     out_shardings=(lies, None, None))

  def ready(*arguments):
    file = config.get("program")
    return executable.prefer(
        file, step_jit, arguments, mesh) if file else step_jit

  def full(state):
    return optim.combine(
        state["ema"] if config.ema else state["params"], frozen)

  known: dict[Any, float] = {}

  def work(batch):  # what the gradient must compute, where that is compared
    if not monitor.peak():
      return None
    shapes = tuple((name, batch[name].shape) for name in sorted(batch))
    if shapes not in known:
      known[shapes] = flops.count(
          gradient(flops.plain(model)), jax.tree.map(
              lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype),
              (state["params"], frozen, batch)))
    return known[shapes]

  with (checkpoint.Series(folder / "steps") as series, jax.set_mesh(mesh),
        hosts.Notice() as notice):
    # --- restore -------------------------------------------------------------
    start = 0
    if restored := series.restore(state):
      start, state, meta = restored
      batches.set_state(meta["data"])
      hosts.say(f"[{name}] goes on at step {start} of {config.steps}")
    fault = sharding.lay(np.zeros(2, np.int32), [("", ())], mesh)
    watch = monitor.Monitor(folder, name, start, config.steps)
    saved, step_fn = time.monotonic(), None
    pending: tuple[int, Any, Any] | None = None

    def check(fault):
      first, count = (int(number) for number in fault)
      if count and nonfinite == "stop":
        raise errors.UserError(
            f"The loss of {name} or its gradient is not finite at step "
            f"{first}; the last good state is kept. Lower optim.learning_rate, "
            "look at the batch that came then, or set train.nonfinite to "
            "'skip'.")
      return {"nonfinite_steps": count} if count else {}

    def read(pending):
      step, scalars, fault = pending
      scalars = {key: float(value) for key, value in scalars.items()}
      watch.scalars(step, scalars | check(fault))
      watch.speed(step, config.batch_size)

    def due(step):  # hosts' clocks differ, and asking the first one takes time
      late = time.monotonic() - saved > config.checkpoint_seconds
      if hosts.count() == 1:
        return late
      return step % config.log_steps == 0 and hosts.agree(late)

    # --- loop ----------------------------------------------------------------
    with watch:
      for step in range(start + 1, config.steps + 1):
        with watch.spending("input", during=fault):
          batch = sharding.place_batch(next(batches), mesh)
        watch.begin(step, work(batch))
        step_fn = step_fn or ready(state, fault, frozen, batch)
        state, fault, scalars = step_fn(state, fault, frozen, batch)
        if pending:  # the step before: the device never waits for logging
          read(pending)
          pending = None
        last, stop = step == config.steps, notice.at(step)
        if step == start + 1:
          jax.block_until_ready(scalars)
          watch.compiled(step)
        if last or step % config.log_steps == 0:
          pending = (step, scalars, fault)
        if evaluate and (last or step % config.eval_steps == 0):
          jax.block_until_ready(scalars)  # its time is the step's
          with watch.spending("evaluate"):
            watch.scalars(step, evaluate(full(state), step))
        if last or stop or due(step):
          if pending:
            read(pending)
            pending = None
          check(fault)
          with watch.spending("checkpoint"):
            series.save(step, state, {"data": batches.get_state()})
          saved = time.monotonic()
        if stop and not last:
          series.wait()
          hosts.say(f"[{name}] told to stop; step {step} is saved")
          raise errors.Stopped
    history = watch.history.rows

  return Result(
      params=full(state), history=history, seconds=time.monotonic() - begin)


class Share(TypedDict):
  """This process's number and how many there are, as `data.loader` asks."""

  host: int
  hosts: int


def share(config: Any) -> Share:
  """Which part of every batch this process loads: of `data.loader.loader`.

  Args:
    config: as of `fit`; its batch_size must divide over the mesh.

  Raises:
    ConfigError: it does not.
  """
  host, hosts_ = hosts.share(sharding.mesh(dict(config.mesh)))
  return {"host": host, "hosts": hosts_}
