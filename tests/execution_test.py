"""How plans follow one another."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamgen_jax import agent, errors, execution, registry
from dreamgen_jax.data import normalize
from dreamgen_jax.diffusion import inpaint, process, sample
from dreamgen_jax.stages import models


@pytest.mark.parametrize("m", ["0.0", "0.01", "0.5"])
def test_temporal_ensembling(golden, m):
  _, files = golden("rollout")
  (tensors,) = files.values()
  plans = execution.Execution(execution.Way(1, ensemble=float(m)))
  found = np.concatenate([plans(chunk) for chunk in tensors["in/chunks"]])
  np.testing.assert_allclose(found, tensors[f"out/ensembled_{m}"], atol=1e-6)


def test_firmness_falls_from_frozen_to_free():
  share = execution.firmness(10, 2, 4)
  np.testing.assert_array_equal(share[:2], 1)
  assert (np.diff(share[1:7]) < 0).all()
  np.testing.assert_array_equal(share[6:], 0)


@pytest.mark.parametrize("kw", [
    dict(execute_steps=0), dict(execute_steps=2, delay=3),
    dict(execute_steps=2, ensemble=0.1),
    dict(execute_steps=1, ensemble=0.1, inpaint=True)])
def test_ways_that_cannot_be(kw):
  with pytest.raises(errors.ConfigError):
    execution.Way(**kw)


def test_samplers_arrive_at_what_is_kept():
  random = np.random.default_rng(0)
  noise, known = random.normal(size=(2, 3, 4, 2)).astype(np.float32)
  known = np.clip(known, -0.9, 0.9)
  share = np.zeros((3, 4, 2), np.float32)
  share[:, :2] = 1

  def velocity(x, time):
    return inpaint.velocity(0.3 * x, x, time / process.TRAIN_STEPS, known,
                            share)

  alphas = process.squared_cosine(100)

  def epsilon(x, step):
    return inpaint.epsilon(
        0.3 * x, x, jnp.asarray(alphas)[step], known, share)

  def data(x, step):
    del step
    return inpaint.sample(0.3 * x, known, share)

  found = [sample.euler(velocity, noise, np.linspace(1, 0, 5))]
  for target, predict in (("epsilon", epsilon), ("sample", data)):
    found.append(sample.ddim(predict, noise, alphas, 5, target=target))
  for chunk in found:
    np.testing.assert_allclose(chunk[:, :2], known[:, :2], atol=1e-3)
    assert np.abs(chunk[:, 2:] - known[:, 2:]).min() > 1e-4


@dataclasses.dataclass(frozen=True)
class Echo:
  """Acts as it is told to begin."""

  config: object
  inpaints: bool = True

  def read(self, language, instructions, state):
    return {}

  def act(self, params, rng, batch):
    return batch["kept"] * batch["kept_share"][..., None]


@dataclasses.dataclass(frozen=True)
class Sizes:
  horizon: int = 5
  n_obs_steps: int = 2
  action_dim: int = 5
  cameras: tuple[str, ...] = ()


def test_what_is_kept_goes_to_the_policy_in_its_units():
  robot = registry.find("embodiments", "tabletop_panda").EMBODIMENT
  rows = np.random.default_rng(0).uniform(size=(50, 5))
  sums = normalize.Accumulator(5)
  sums.add(rows)
  action = normalize.Normalizer.create(robot.action, sums.result())

  def ask(model):
    return agent.Agent(model, {}, action, None, None, 0, robot)({
        "instruction": ["x", "x"], "state": np.zeros((2, 2, 5), np.float32),
        "state_mask": np.ones((2, 2), bool),
        "kept": [(rows[:3], np.ones(3)), None]}, np.zeros(2, np.uint32))

  found = ask(Echo(Sizes()))
  assert found.shape == (2, 4, 5)
  np.testing.assert_allclose(found[0, :3, :4], rows[:3, :4], atol=1e-5)
  np.testing.assert_allclose(
      found[1], action.undo(np.zeros((4, 5))), atol=1e-6)
  with pytest.raises(errors.ConfigError, match="inpaint = False"):
    ask(Echo(Sizes(), inpaints=False))


_ONE = dict(depth=1)


@pytest.mark.parametrize(("name", "kw"), [
    ("diffusion_policy", dict(vision=dict(
        widths=(16,), blocks=(1,), strides=(2,)), widths=(8, 16))),
    ("pi0", dict(vision=_ONE, language=_ONE, expert=_ONE)),
    ("groot_n1", dict(backbone=dict(vision=_ONE, language=dict(layers=1)),
                      head=dict(depth=2))),
])
def test_policies_can_be_told_how_chunks_begin(name, kw):
  model = models.build("policies", {"name": name, "preset": "nano", "kw": kw})
  c = model.config
  steps = c.horizon - c.n_obs_steps + 1
  batch = model.example(2) | {
      leaf: jax.ShapeDtypeStruct(shape, jnp.float32) for leaf, shape in (
          ("kept", (2, steps, c.action_dim)), ("kept_share", (2, steps)))}
  params = jax.eval_shape(model.init, jax.random.key(0))
  chunk = jax.eval_shape(model.act, params, jax.random.key(0), batch)
  assert model.inpaints and chunk.shape == batch["kept"].shape
